//! The clients that people use: Mosquitto's, paho-mqtt, aiomqtt, gmqtt, MQTT.js and rumqttc, in both
//! versions at every QoS.

mod comparison;
mod mosquitto;
mod rumqttc_v311;
mod rumqttc_v5;
mod scripts;
