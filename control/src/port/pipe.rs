//! Messages as bytes: JSON behind its length as a big-endian `u32`.

use serde::{Serialize, de::DeserializeOwned};

/// A message that could not be read from the pipe. Close the pipe and connect again.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A length above [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    /// Not the JSON of a known message.
    #[error("message cannot be read")]
    Json(#[from] serde_json::Error),
}

/// Appends one message, with its length in front, to `out`.
///
/// # Errors
/// [`DecodeError::TooLong`] above [`MESSAGE_BYTES_MAX`]; `out` is then as it was.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    if let Err(error) = serde_json::to_writer(&mut *out, message) {
        out.truncate(start);
        return Err(error.into());
    }
    let bytes = out.len() - start - 4;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= MESSAGE_BYTES_MAX => {
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(DecodeError::TooLong(bytes))
        }
    }
}

/// Cuts a byte stream back into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// Takes bytes as they came from the pipe.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole message, or `None` until more bytes come.
    ///
    /// # Errors
    /// [`DecodeError`]; the stream is out of step then and must be closed.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, DecodeError> {
        let rest = &self.buffer[self.read..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.read += 4 + length;
        Ok(Some(message))
    }
}

/// 64 MiB: a snapshot of 100,000 agents with prompts of 500 bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
