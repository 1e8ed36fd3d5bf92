use serde_json::json;

use super::page::{Ask, EXAMINED_MAX, Page};
use super::payload::Payload;
use super::*;

fn numbers(page: &Page, upto: usize, wanted: impl Fn(usize) -> bool) -> serde_json::Value {
    let keys: Vec<String> = (0..upto).map(|number| format!("{number:06}")).collect();
    let behind = keys.iter().filter(|key| page.after.as_ref().is_none_or(|after| *key > after));
    let item = |key: &&String| key.parse().ok().filter(|number| wanted(*number));
    serde_json::to_value(page.collect(behind, |key| key.as_str(), item, 7)).unwrap()
}

fn ask(limit: Option<&str>, cursor: Option<&str>) -> Result<Page, Problem> {
    let query = json!({ "limit": limit, "cursor": cursor });
    serde_json::from_value::<Ask>(query).unwrap().page()
}

#[test]
fn pages_follow_each_other_to_the_end() {
    let mut cursor = None;
    let mut seen = Vec::new();
    loop {
        let list = numbers(&ask(Some("3"), cursor.as_deref()).unwrap(), 10, |_| true);
        assert_eq!(list["as_of"], "7");
        seen.extend(list["items"].as_array().unwrap().iter().map(|item| item.as_u64().unwrap()));
        cursor = list["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
        assert_eq!(list["items"].as_array().unwrap().len(), 3);
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    // A page that ends exactly at the end has no next.
    assert_eq!(numbers(&ask(Some("5"), None).unwrap(), 5, |_| true)["next"], json!(null));
}

#[test]
fn a_page_that_finds_little_ends_early_and_goes_on() {
    let last = EXAMINED_MAX + 5;
    let list = numbers(&ask(None, None).unwrap(), last + 1, |number| number == last);
    assert_eq!(list["items"], json!([]));
    let next = list["next"].as_str().unwrap();
    let list = numbers(&ask(None, Some(next)).unwrap(), last + 1, |number| number == last);
    assert_eq!(list["items"], json!([last]));
    assert_eq!(list["next"], json!(null));
}

#[test]
fn limits_and_cursors_are_checked() {
    for limit in ["0", "-1", "1001", "9223372036854775808", "NaN", "", "1e3"] {
        assert!(ask(Some(limit), None).is_err(), "{limit}");
    }
    assert_eq!(ask(Some("1000"), None).unwrap().limit, 1000);
    for cursor in ["*", "YQ==", "_w"] {
        assert!(ask(None, Some(cursor)).is_err(), "{cursor}");
    }
}

#[test]
fn payloads_are_text_or_base64_and_no_longer_than_a_kibibyte() {
    let shown = |payload: &[u8]| serde_json::to_value(Payload::from(payload)).unwrap();
    let text = shown("grün".as_bytes());
    assert_eq!(text["payload"], "grün");
    assert_eq!(text["payload_encoding"], "utf-8");
    assert_eq!(shown(&[0xff, 0])["payload"], "/wA=");
    assert_eq!(shown(&[0xff, 0])["payload_encoding"], "base64");
    // Cut within the last character.
    let long = shown("ü".repeat(600).as_bytes());
    assert_eq!(long["payload"].as_str().unwrap().chars().count(), 512);
    let odd = shown(format!("x{}", "ü".repeat(600)).as_bytes());
    assert_eq!(odd["payload"].as_str().unwrap().chars().count(), 512);
    assert_eq!(odd["payload_is_cut"], true);
    assert_eq!(odd["payload_bytes"], 1201);
}

#[test]
fn instants_are_rfc_3339_in_utc() {
    assert_eq!(instant(Timestamp::from_secs(1_700_000_000)).unwrap(), "2023-11-14T22:13:20Z");
}
