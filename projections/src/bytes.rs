//! Fixed-width bytes of checkpoint rows.

/// A row ends before its value does, or holds a value that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row is cut or holds an impossible value")]
pub(crate) struct Cut;

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, u32::try_from(bytes.len()).expect("a packet has at most 256 MiB"));
    out.extend_from_slice(bytes);
}

/// What is left of a row. Numbers are big-endian, so that keys sort as their numbers do.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn u8(&mut self) -> Result<u8, Cut> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Cut> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Cut> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Cut> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Cut)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Cut> {
        str::from_utf8(self.bytes()?).map_err(|_| Cut)
    }

    pub(crate) fn rest_str(&self) -> Result<&'a str, Cut> {
        str::from_utf8(self.0).map_err(|_| Cut)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Cut> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Cut)?;
        self.0 = rest;
        Ok(*bytes)
    }
}
