use crate::access::{AclFault, Action, Identity, Rules, parse};
use crate::topic::TopicError;

fn may(acl: &str, who: (&str, Option<&str>), action: Action, topic: &str) -> bool {
    let rules = Rules::new(Some(&parse(acl).unwrap()));
    rules.may(&Identity { client: who.0, username: who.1 }, action, topic)
}

/// Each line of `table`: `CLIENT[:USER] publish|subscribe|receive TOPIC yes|no`.
#[track_caller]
fn check(acl: &str, table: &str) {
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split(' ').collect();
        let (client, user) = match words[0].split_once(':') {
            Some((client, user)) => (client, Some(user)),
            None => (words[0], None),
        };
        let action = match words[1] {
            "publish" => Action::Publish,
            "subscribe" => Action::Subscribe,
            "receive" => Action::Receive,
            other => panic!("{other}"),
        };
        let expected = words[3] == "yes";
        assert_eq!(may(acl, (client, user), action, words[2]), expected, "{acl}\n{line}");
    }
}

#[test]
fn without_rules_everything_but_control_and_replay_is_allowed() {
    let may =
        |action, topic| Rules::open().may(&Identity { client: "c", username: None }, action, topic);
    assert!(
        may(Action::Publish, "a/b") && may(Action::Receive, "a") && may(Action::Subscribe, "#")
    );
    assert!(may(Action::Subscribe, "$SYS/#") && may(Action::Receive, "$SYS/broker/uptime"));
    for topic in ["$CONTROL/x", "$CONTROL", "$replay/1/a"] {
        assert!(!may(Action::Publish, topic) && !may(Action::Receive, topic), "{topic}");
    }
    for filter in ["$CONTROL/#", "$CONTROL/+/v1", "$share/g/$CONTROL/#", "$replay/#"] {
        assert!(!may(Action::Subscribe, filter), "{filter}");
    }
    assert!(may(Action::Publish, "$CONTROLLED/x"));
}

#[test]
fn what_no_rule_grants_is_denied() {
    let table = "c publish a no\nc:u receive a no\nc:u subscribe # no";
    check("", table);
    check("# nothing\n\n   \n", table);
    check("user other\ntopic #", table);
}

#[test]
fn rules_are_for_the_user_above_them() {
    check(
        "topic read n\nuser u v\ntopic write a\ntopic read b\ntopic c\nuser w\ntopic d",
        "x receive n yes
         x publish n no
         x:w receive n no
         x:w publish d yes
         x receive d no",
    );
    assert!(may("user u v\ntopic write a b", ("x", Some("u v")), Action::Publish, "a b"));
}

#[test]
fn read_write_and_both_are_told_apart() {
    check(
        "user u\ntopic write w/#\ntopic read r/+\ntopic readwrite b\ntopic d",
        "c:u publish w/x yes
         c:u receive w/x no
         c:u subscribe w/x no
         c:u publish r/x no
         c:u receive r/x yes
         c:u receive r/x/y no
         c:u subscribe r/# yes
         c:u subscribe r/x/y no
         c:u subscribe # yes
         c:u subscribe $share/g/r/+ yes
         c:u subscribe $share/r/w/x no
         c:u publish b yes
         c:u publish d yes
         c:u receive d yes",
    );
}

#[test]
fn a_deny_wins_over_every_grant() {
    check(
        "user u\ntopic deny a/secret/#\ntopic a/#\npattern a/secret/%u\npattern deny a/+/hidden",
        "c:u publish a/x yes
         c:u publish a/secret no
         c:u receive a/secret/u no
         c:u receive a/b/hidden no
         c:v receive a/secret/v yes
         c:u subscribe a/secret/# no
         c:u subscribe a/secret/u no
         c:u subscribe a/b/hidden no
         c:u subscribe a/+/hidden no
         c:u subscribe a/+ yes
         c:u subscribe a/# yes
         c:u subscribe # yes",
    );
}

#[test]
fn a_filter_that_many_denies_cover_together_is_refused() {
    let acl = "topic read a/#\ntopic deny a\ntopic deny a/+\ntopic deny a/+/+/#";
    check(acl, "c subscribe a/# no\nc subscribe a/+/b no");
    check("topic read a/#\ntopic deny a/+\ntopic deny a/+/+/#", "c subscribe a/# yes");
}

#[test]
fn a_member_of_a_group_may_receive_all_that_the_group_does() {
    check(
        "topic read a/+\ntopic read b/#\nuser u\ntopic read #\ntopic deny a/secret\npattern deny p/%u",
        "c subscribe $share/g/a/+ yes
         c subscribe $share/g/a/x yes
         c subscribe $share/g/a/# no
         c subscribe $share/g/+/x no
         c subscribe $share/g/b/# yes
         c subscribe $share/g/b/+/x yes
         c subscribe $share/g/# no
         c:u subscribe $share/g/a/x yes
         c:u subscribe $share/g/a/+ no
         c:u subscribe $share/g/# no
         c:u subscribe $share/g/q/# yes
         c:u subscribe $share/g/p/x yes
         c:u subscribe $share/g/p/u no
         c:u subscribe $share/g/p/+ no",
    );
    check(
        "topic read a\ntopic read a/+\ntopic read a/+/+/#\npattern deny b/%c",
        "c subscribe $share/g/a/# yes
         + subscribe $share/g/b/x no",
    );
}

#[test]
fn wildcards_never_reach_topics_that_begin_with_a_dollar() {
    check(
        "topic #\ntopic +/x\npattern +/#",
        "c receive $SYS/x no
         c publish $CONTROL/x no
         c subscribe $SYS/# no
         c subscribe $CONTROL/x no
         c subscribe # yes",
    );
    check(
        "topic read $SYS/#\ntopic $CONTROL/dynamic-security/#",
        "c receive $SYS/x yes
         c subscribe $SYS/broker/+ yes
         c subscribe # no
         c subscribe +/x no
         c subscribe $CONTROL/# yes
         c publish $CONTROL/dynamic-security/v1 yes",
    );
}

#[test]
fn placeholders_stand_for_the_names_of_the_client() {
    check(
        "pattern read %c/%u/x-%c\npattern write 100%/%u%c",
        "c:u receive c/u/x-c yes
         c:u receive c/u/x-u no
         c:u subscribe c/# yes
         c:u subscribe +/v/+ no
         c receive c//x-c no
         c:u publish 100%/uc yes
         c:%c publish 100%/%cc yes
         c:%c publish 100%/cc no",
    );
}

#[test]
fn a_name_with_wildcards_or_levels_widens_no_pattern() {
    let acl = "pattern in/%u/#\npattern of/%c/#\npattern deny of/%c/secret\ntopic of/+/secret";
    check(
        acl,
        "c:# receive in/x no
         c:+ receive in/x no
         c:+ receive in/+ no
         c:a/b receive in/a/b no
         c:# subscribe in/# no
         +:u receive of/x no
         #:u receive of/x no
         # subscribe of/# no
         x receive of/x/secret no
         a/b receive of/a/secret no
         x:a receive in/a/b yes",
    );
}

#[test]
fn a_name_opens_no_topics_that_begin_with_a_dollar() {
    check(
        "pattern %c/#\npattern %u/#",
        "$CONTROL publish $CONTROL/x no
         $SYS:$replay receive $replay/x no
         $SYS:$replay subscribe $replay/# no
         $SYS subscribe $SYS/# no
         c receive c/x yes",
    );
}

#[test]
fn a_wrong_line_is_named_with_what_to_do() {
    let fault = |text: &str| {
        let error = parse(text).unwrap_err();
        (error.line, error.fault)
    };
    assert_eq!(fault("topic a\nusr x"), (2, AclFault::Keyword));
    assert_eq!(fault("user"), (1, AclFault::NoName));
    assert_eq!(fault("user  \t"), (1, AclFault::NoName));
    assert_eq!(fault("# x\n\ntopic"), (3, AclFault::NoFilter));
    assert_eq!(fault("pattern"), (1, AclFault::NoFilter));
    assert_eq!(fault("topic my topic"), (1, AclFault::Access));
    assert_eq!(fault("topic read a/#/b"), (1, AclFault::Filter(TopicError::MisplacedWildcard)));
    assert_eq!(fault("topic read $share/g/a"), (1, AclFault::Shared));
    assert_eq!(fault("topic read a/%u/b"), (1, AclFault::Placeholder));
    assert_eq!(
        parse("topic my topic").unwrap_err().to_string(),
        "line 1, \"topic my topic\": the first word is none of read, write, readwrite and deny; \
         if it belongs to a topic filter with spaces, put 'readwrite' in front of it"
    );
    let long = format!("x{}", "\u{1b}y".repeat(200));
    assert!(parse(&long).unwrap_err().to_string().len() < 1000);
}

#[test]
fn a_word_that_reads_like_an_access_is_a_topic_when_alone() {
    check("topic read\ntopic readwrite my topic", "c publish read yes\nc receive read yes");
}

#[test]
fn a_list_does_not_depend_on_order_repetition_or_layout() {
    let one = parse("topic read a\nuser u\ntopic b\ntopic deny c\npattern d/%c").unwrap();
    let other = parse(
        "\u{feff}pattern d/%c\r\n  user u\r\n\ttopic deny c\r\n# x\r\ntopic readwrite b\r\ntopic b\r\n",
    );
    let other: Vec<_> = other.unwrap().groups().to_vec();
    assert_eq!(one.groups()[1..], other[..]);
    let bytes = postcard::to_stdvec(&one).unwrap();
    assert_eq!(postcard::from_bytes::<crate::access::RuleList>(&bytes).unwrap(), one);
    let mut unsorted = one.groups().to_vec();
    unsorted.reverse();
    let bytes = postcard::to_stdvec(&unsorted).unwrap();
    assert!(postcard::from_bytes::<crate::access::RuleList>(&bytes).is_err());
}
