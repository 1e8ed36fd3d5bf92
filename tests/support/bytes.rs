//! Control Packets put together by hand, so that each of their fields can be spoilt.

use ledgermq_core::packet::ProtocolVersion;

/// A part of a Control Packet.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    /// What stands there as it is.
    Bytes(Vec<u8>),
    /// A string or Binary Data behind its length.
    Prefixed(Prefixed),
    /// Properties behind their length, one after the other.
    Properties(Vec<Field>),
}

/// A string or Binary Data.
#[derive(Clone, Debug)]
pub(crate) struct Prefixed {
    pub(crate) is_text: bool,
    pub(crate) content: Vec<u8>,
    /// The length that is told, if it is not that of the content.
    pub(crate) told: Option<u16>,
}

impl Field {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Prefixed(Prefixed { content, told, .. }) => {
                let length = told.unwrap_or_else(|| content.len().try_into().expect("a string"));
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(content);
            }
            Self::Properties(fields) => {
                let block = body(fields);
                out.extend_from_slice(&varint(block.len()));
                out.extend_from_slice(&block);
            }
        }
    }

    fn collect<'f>(&'f mut self, found: &mut Vec<&'f mut Prefixed>) {
        match self {
            Self::Bytes(_) => {}
            Self::Prefixed(prefixed) => found.push(prefixed),
            Self::Properties(fields) => fields.iter_mut().for_each(|field| field.collect(found)),
        }
    }
}

/// A Control Packet of a client.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    /// Its name, for the messages of failed tests.
    pub(crate) name: &'static str,
    /// Type and flags.
    pub(crate) first: u8,
    pub(crate) fields: Vec<Field>,
}

impl Raw {
    /// The packet with the Remaining Length that is right.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        packet(self.first, &self.body())
    }

    /// What stands behind the fixed header.
    pub(crate) fn body(&self) -> Vec<u8> {
        body(&self.fields)
    }

    /// All strings and Binary Data, those of properties too, in the order of the bytes.
    pub(crate) fn prefixed(&mut self) -> Vec<&mut Prefixed> {
        let mut found = Vec::new();
        self.fields.iter_mut().for_each(|field| field.collect(&mut found));
        found
    }

    /// Copies of the packet in each of which one text is another, in the order of the bytes.
    pub(crate) fn each_text(&self, content: &[u8]) -> Vec<Self> {
        let mut copies = Vec::new();
        for at in 0..self.clone().prefixed().len() {
            let mut packet = self.clone();
            let prefixed = packet.prefixed().swap_remove(at);
            if prefixed.is_text {
                prefixed.content = content.to_vec();
                copies.push(packet);
            }
        }
        copies
    }

    /// Copies of the packet in each of which the length of one string or Binary Data says that it
    /// ends so many bytes behind the end of the packet.
    pub(crate) fn each_overlong(&self, beyond: usize) -> Vec<Self> {
        let body = self.body();
        let spoilt = |at: usize| {
            let mut packet = self.clone();
            packet.prefixed()[at].told = Some(u16::MAX);
            let other = packet.body();
            let place = body.iter().zip(&other).position(|(a, b)| a != b).expect("it differs");
            let told = (body.len() - place - 2 + beyond).try_into().expect("a short packet");
            packet.prefixed()[at].told = Some(told);
            packet
        };
        (0..self.clone().prefixed().len()).map(spoilt).collect()
    }

    /// Copies of the packet for each of its blocks of properties, which is `block` in them.
    pub(crate) fn each_block(&self, block: &Field) -> Vec<Self> {
        let mut copies = Vec::new();
        for (at, field) in self.fields.iter().enumerate() {
            if matches!(field, Field::Properties(_)) {
                let mut packet = self.clone();
                packet.fields[at] = block.clone();
                copies.push(packet);
            }
        }
        copies
    }
}

fn body(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    fields.iter().for_each(|field| field.write(&mut out));
    out
}

/// A packet with this first byte.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &varint(body.len()), body].concat()
}

/// A Variable Byte Integer.
pub(crate) fn varint(value: usize) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), value);
    loop {
        let byte = u8::try_from(rest % 128).expect("below 128");
        rest /= 128;
        if rest == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// A field of these bytes.
pub(crate) fn raw(bytes: &[u8]) -> Field {
    Field::Bytes(bytes.to_vec())
}

/// A UTF-8 Encoded String.
pub(crate) fn text(content: impl AsRef<[u8]>) -> Field {
    Field::Prefixed(Prefixed { is_text: true, content: content.as_ref().to_vec(), told: None })
}

/// Binary Data.
pub(crate) fn binary(content: impl AsRef<[u8]>) -> Field {
    Field::Prefixed(Prefixed { is_text: false, content: content.as_ref().to_vec(), told: None })
}

/// Identifiers of all properties of MQTT 5.
pub(crate) const PROPERTIES: [u8; 27] = [
    0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C,
    0x1F, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
];

/// A property with a value that it may have (MQTT 5 section 2.2.2.2).
pub(crate) fn property(id: u8) -> Vec<Field> {
    let mut fields = vec![raw(&[id])];
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => fields.push(raw(&[1])),
        0x13 | 0x21 | 0x22 | 0x23 => fields.push(raw(&[0, 2])),
        0x02 | 0x11 | 0x18 => fields.push(raw(&[0, 0, 0, 60])),
        0x27 => fields.push(raw(&[0, 1, 0, 0])),
        0x0B => fields.push(raw(&[7])),
        0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => fields.push(text("text")),
        0x09 | 0x16 => fields.push(binary("data")),
        0x26 => fields.extend([text("name"), text("value")]),
        _ => {}
    }
    fields
}

/// These properties, each with a value that it may have.
pub(crate) fn properties(ids: &[u8]) -> Field {
    Field::Properties(ids.iter().flat_map(|id| property(*id)).collect())
}

/// A CONNECT with everything that it may hold: a will, a User Name, a Password, all properties but
/// those of enhanced authentication.
pub(crate) fn connect(version: ProtocolVersion, client_id: &str) -> Raw {
    let name = if version == ProtocolVersion::V31 { "MQIsdp" } else { "MQTT" };
    let is_v5 = version == ProtocolVersion::V5;
    let mut fields = vec![text(name), raw(&[version as u8, 0b1100_1110, 0, 0])];
    fields.extend(is_v5.then(|| properties(&[0x11, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27])));
    fields.push(text(client_id));
    fields.extend(is_v5.then(|| properties(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26])));
    fields.extend([text("will"), binary("of a client"), text("user"), binary("password")]);
    Raw { name: "CONNECT", first: 0x10, fields }
}

/// A CONNECT with nothing but a Client Identifier, and a clean start.
pub(crate) fn plain_connect(version: ProtocolVersion, client_id: &str) -> Raw {
    let name = if version == ProtocolVersion::V31 { "MQIsdp" } else { "MQTT" };
    let mut fields = vec![text(name), raw(&[version as u8, 0b0000_0010, 0, 0])];
    fields.extend((version == ProtocolVersion::V5).then(|| properties(&[])));
    fields.push(text(client_id));
    Raw { name: "CONNECT", first: 0x10, fields }
}

/// Packets that a client may send behind its CONNECT, in MQTT 5 with all their properties, but for
/// AUTH.
pub(crate) fn after_connect(version: ProtocolVersion) -> Vec<Raw> {
    let is_v5 = version == ProtocolVersion::V5;
    let with = |ids: &[u8]| is_v5.then(|| properties(ids));
    let build = |name, first, parts: [Option<Field>; 5]| Raw {
        name,
        first,
        fields: parts.into_iter().flatten().collect(),
    };
    let id = || Some(raw(&[0, 9]));
    let ack = |name, first| {
        let reason = is_v5.then(|| raw(&[0]));
        build(name, first, [id(), reason, with(&[0x1F, 0x26]), None, None])
    };
    let published = || with(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x26]);
    let payload = || Some(raw(b"payload"));
    let options = || Some(raw(&[1]));
    vec![
        build("PUBLISH", 0x30, [Some(text("topic")), published(), payload(), None, None]),
        build("PUBLISH of QoS 1", 0x32, [Some(text("topic")), id(), published(), payload(), None]),
        build("PUBLISH of QoS 2", 0x34, [Some(text("topic")), id(), published(), payload(), None]),
        ack("PUBACK", 0x40),
        ack("PUBREC", 0x50),
        ack("PUBREL", 0x62),
        ack("PUBCOMP", 0x70),
        build("SUBSCRIBE", 0x82, [id(), with(&[0x0B, 0x26]), Some(text("a/b")), options(), None]),
        build("UNSUBSCRIBE", 0xA2, [id(), with(&[0x26]), Some(text("a/b")), None, None]),
        build("PINGREQ", 0xC0, [const { None }; 5]),
        build(
            "DISCONNECT",
            0xE0,
            [is_v5.then(|| raw(&[0])), with(&[0x1C, 0x1F, 0x26]), None, None, None],
        ),
    ]
}

/// Packets that only a server sends, as this version has them.
pub(crate) fn of_servers(version: ProtocolVersion) -> Vec<Raw> {
    let is_v5 = version == ProtocolVersion::V5;
    let build = |name, first, body: &[u8]| Raw { name, first, fields: vec![raw(body)] };
    vec![
        build("CONNACK", 0x20, if is_v5 { &[0, 0, 0] } else { &[0, 0] }),
        build("SUBACK", 0x90, if is_v5 { &[0, 9, 0, 0] } else { &[0, 9, 0] }),
        build("UNSUBACK", 0xB0, if is_v5 { &[0, 9, 0, 0] } else { &[0, 9] }),
        build("PINGRESP", 0xD0, &[]),
    ]
}

/// AUTH with all its properties.
pub(crate) fn auth() -> Raw {
    let fields = vec![raw(&[0x18]), properties(&[0x15, 0x16, 0x1F, 0x26])];
    Raw { name: "AUTH", first: 0xF0, fields }
}
