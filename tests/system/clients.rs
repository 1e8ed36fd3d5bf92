//! The clients that people use: Mosquitto's, paho-mqtt and rumqttc, in both versions at every QoS.

mod mosquitto;
mod paho;
mod rumqttc_v311;
mod rumqttc_v5;
