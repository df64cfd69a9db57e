//! Request bodies: JSON objects, read by field. A field of the wrong type counts as missing; two spellings of one field
//! must agree; a key may stand once.

use std::fmt;

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body; an empty one has no fields.
    ///
    /// # Errors
    /// 400 for what is no JSON object, or one with a key twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Fields::default());
        }
        let malformed = |_| ApiError::new(400, "malformed_json", "The body must be a JSON object with each key once.");
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let fields = reader.deserialize_map(UniqueKeys).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(Fields(fields))
    }

    /// A text by one of its names.
    ///
    /// # Errors
    /// 400 when two names are given with different values.
    pub fn text(&self, names: &[&str]) -> Result<Option<String>, ApiError> {
        Ok(self.value(names)?.and_then(Value::as_str).map(str::to_owned))
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// 400 when it is not, or is not a text.
    pub fn required(&self, names: &[&str]) -> Result<String, ApiError> {
        self.text(names)?.ok_or_else(|| ApiError::missing(names[0]))
    }

    /// A whole number; `None` when absent.
    ///
    /// # Errors
    /// 400 when it is something else.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok())) {
                Some(number) => Ok(Some(number)),
                None => Err(ApiError::new(400, "bad_field", format!("{name} must be a whole number."))),
            },
        }
    }

    /// A value as it stands, null included; `None` when absent.
    pub fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Refuses fields of other names than these.
    ///
    /// # Errors
    /// 400 that names the first.
    pub fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().filter(|letter| !letter.is_control()).take(64).collect();
                Err(ApiError::new(400, "unknown_field", format!("{shown} is no field here.")))
            }
        }
    }

    /// What is the same for two requests whose fields are, in whatever order and spacing.
    pub fn digest(&self) -> [u8; 32] {
        crate::secret::digest(&serde_json::to_string(&self.0).unwrap_or_default())
    }

    fn value(&self, names: &[&str]) -> Result<Option<&Value>, ApiError> {
        let mut found = names.iter().filter_map(|name| self.0.get(*name)).filter(|value| !value.is_null());
        let Some(first) = found.next() else { return Ok(None) };
        if found.any(|other| other != first) {
            let message = format!("{} are names of one field and differ.", names.join(" and "));
            return Err(ApiError::new(400, "conflicting_fields", message));
        }
        Ok(Some(first))
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| {
            ApiError::new(413, "body_too_large", format!("The body must not be larger than {BODY_BYTES_MAX} bytes."))
        })?;
        Fields::parse(&bytes)
    }
}

/// Reads an object whose keys differ.
struct UniqueKeys;

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with each key once")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some((key, value)) = access.next_entry::<String, Value>()? {
            if fields.insert(key, value).is_some() {
                return Err(serde::de::Error::custom("a key twice"));
            }
        }
        Ok(fields)
    }
}

/// 1 MiB: a prompt of 500 pages.
pub const BODY_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_any_of_its_names_and_they_must_agree() {
        let fields =
            Fields::parse(br#"{"sid":"CA1","callSid":"CA1","n":3,"m":"4","null":null,"deep":{"a":1}}"#).expect("JSON");
        assert_eq!(fields.text(&["sid", "callSid", "call_id"]).expect("agrees").as_deref(), Some("CA1"));
        assert_eq!(fields.text(&["n"]).expect("alone"), None, "the wrong type is missing");
        assert_eq!(fields.integer("n").expect("number"), Some(3));
        assert_eq!(fields.integer("m").expect("number"), Some(4));
        assert_eq!(fields.text(&["null"]).expect("alone"), None);
        let fields = Fields::parse(br#"{"sid":"CA1","callSid":"CA2"}"#).expect("JSON");
        assert!(fields.text(&["sid", "callSid"]).is_err());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["[]", "1", "{", "{}x", "{\"a\":1,\"a\":2}", "nul", "{\"a\":", "\u{feff}{}"] {
            assert!(Fields::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Fields::parse(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()).is_err());
        assert_eq!(Fields::parse(b" \r\n").expect("empty"), Fields::default());
    }
}
