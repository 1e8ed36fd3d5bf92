//! What an MQTT 5 client is told if it asks for it in its CONNECT.

use ledgermq_core::reason::ReasonCode;

use crate::support::broker::Options as BrokerOptions;
use crate::support::client::{Options, Refused};

#[test]
fn response_information_is_given_to_clients_that_ask_for_it() {
    let broker = BrokerOptions::default().set("gateway.response_information", "answers/%c").start();
    for (asks, told) in [(None, None), (Some(false), None), (Some(true), Some("answers/client"))] {
        let mut options = Options::v5("client");
        options.connect.request_response_information = asks;
        let client = options.connect(broker.mqtt);
        assert_eq!(client.connected().response_information.as_deref(), told);
    }
}

#[test]
fn reason_strings_are_given_to_clients_that_ask_for_them() {
    let broker = BrokerOptions::default().start();
    for (asks, is_told) in [(None, false), (Some(false), false), (Some(true), true)] {
        let mut options = Options::v5("client");
        options.connect.request_problem_information = asks;
        options.connect.authentication_method = Some("unknown");
        let Err(Refused::ConnAck(connected)) = options.try_connect(broker.mqtt) else {
            panic!("the method is not known");
        };
        assert_eq!(connected.reason, ReasonCode::BadAuthenticationMethod);
        assert_eq!(connected.reason_string.is_some(), is_told);
    }
}
