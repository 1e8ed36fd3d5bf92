//! The header of the PROXY protocol, versions 1 (text) and 2 (binary): which client a proxy speaks
//! for.
//!
//! Only the addresses of a TCP connection are taken; other fields are checked for their length and
//! passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(test)]
mod tests;

/// A header of version 1, its CR LF included, at most.
pub const V1_BYTES_MAX: usize = 107;
/// A header of version 2, its additional fields included, at most.
pub const V2_BYTES_MAX: usize = 3 << 10;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Address of the client; none if the proxy speaks for itself or does not know.
    pub client: Option<SocketAddr>,
    /// Bytes of the header.
    pub length: usize,
}

/// What was sent is no header that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// Looks for a header at the front of `bytes`: none if more must come.
///
/// # Errors
///
/// As soon as it shows that no header can come of them.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    match bytes {
        [] => Ok(None),
        [b'P', ..] => text(bytes),
        _ => binary(bytes),
    }
}

fn text(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    begins(bytes, V1_START)?;
    let part = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = part.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() >= V1_BYTES_MAX {
            true => Err(Malformed("the line is too long")),
            false => Ok(None),
        };
    };
    let line = part.get(V1_START.len()..end).unwrap_or_default();
    let line = str::from_utf8(line).map_err(|_| Malformed("the line is no text"))?;
    Ok(Some(Header { client: fields(line)?, length: end + 2 }))
}

/// What follows `PROXY `.
fn fields(line: &str) -> Result<Option<SocketAddr>, Malformed> {
    let mut words = line.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let words: Vec<&str> = words.take(5).collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(Malformed("the line has other than four fields after the family"));
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    let source = address(source).zip(port(source_port));
    match (source, address(destination).zip(port(destination_port))) {
        (Some(source), Some(_)) => Ok(Some(source.into())),
        _ => Err(Malformed("the line has no addresses and ports of its family")),
    }
}

/// A decimal number without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_padded = text.len() > 1 && text.starts_with('0');
    (is_plain && !is_padded).then(|| text.parse().ok()).flatten()
}

fn binary(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    begins(bytes, V2_START)?;
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else { return Ok(None) };
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("neither version 2 nor a command that it has")),
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if V2_FIXED_BYTES + length > V2_BYTES_MAX {
        return Err(Malformed("the header is too long"));
    }
    let addresses = match fixed[13] {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(Malformed("an unknown family of addresses")),
    };
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let length = V2_FIXED_BYTES + length;
    if is_local {
        return Ok(Some(Header { client: None, length }));
    }
    let Some((addresses, more)) = body.split_at_checked(addresses) else {
        return Err(Malformed("the header is too short for its addresses"));
    };
    check_fields(more)?;
    let client = match fixed[13] {
        0x11 => source::<4>(addresses),
        0x21 => source::<16>(addresses),
        // Of other families there is nothing that could be a peer's address over TCP.
        _ => None,
    };
    Ok(Some(Header { client, length }))
}

/// Source address and port, which stand before and behind the destination's address.
fn source<const N: usize>(addresses: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let (ip, rest) = addresses.split_first_chunk::<N>()?;
    let port = rest.get(N..N + 2)?.try_into().ok()?;
    Some((IpAddr::from(*ip), u16::from_be_bytes(port)).into())
}

/// Additional fields: type, length of two bytes, value.
fn check_fields(mut bytes: &[u8]) -> Result<(), Malformed> {
    while let [_, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).ok_or(Malformed("a field is longer than the header"))?;
    }
    if bytes.is_empty() { Ok(()) } else { Err(Malformed("a field is cut off")) }
}

fn begins(bytes: &[u8], start: &[u8]) -> Result<(), Malformed> {
    let length = bytes.len().min(start.len());
    match bytes[..length] == start[..length] {
        true => Ok(()),
        false => Err(Malformed("no header of the PROXY protocol")),
    }
}

/// Takes the header from the front of a connection, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
}

impl Reader {
    /// Takes bytes; gives the header and how many of them belonged to it, once it is whole.
    ///
    /// # Errors
    ///
    /// If no header can come of them.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
        let before = self.bytes.len();
        let part = bytes.len().min(V2_BYTES_MAX - before);
        // To the byte: this is what a slow connection costs.
        self.bytes.reserve_exact(part);
        self.bytes.extend_from_slice(&bytes[..part]);
        let header = parse(&self.bytes)?;
        Ok(header.map(|header| (header, header.length - before)))
    }
}
