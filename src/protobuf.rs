//! What a gRPC service's compiled descriptors say: its methods, their messages, and those as JSON. Takes bytes,
//! opens no file.

use std::fmt;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, MethodDescriptor, SerializeOptions};

use crate::payload::Payload;

/// A descriptor set, as `protoc --descriptor_set_out --include_imports` and `buf build` write it.
#[derive(Clone)]
pub struct Descriptors {
    pool: DescriptorPool,
    bytes: Vec<u8>,
}

impl PartialEq for Descriptors {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Descriptors {}

impl fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptors({} services)", self.pool.services().len())
    }
}

/// A method that takes one message and gives one.
#[derive(Debug, Clone)]
pub struct Method {
    descriptor: MethodDescriptor,
}

impl Descriptors {
    /// Reads a descriptor set.
    ///
    /// # Errors
    /// One line: why it is none.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
        if pool.services().len() == 0 {
            return Err("it has no service".to_owned());
        }
        Ok(Self { pool, bytes })
    }

    /// Finds a method by its full name: `tracking.v1.Tracking/Announce`.
    ///
    /// # Errors
    /// One line: what is wrong with it, and the full name of the nearest.
    pub fn method(&self, name: &str) -> Result<Method, (String, Option<String>)> {
        let all = || self.pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        match all().find(|method| shown(method) == name) {
            Some(descriptor) if descriptor.is_client_streaming() || descriptor.is_server_streaming() => {
                Err((format!("`{name}` is a stream, and a call has one request and one answer"), None))
            }
            Some(descriptor) => Ok(Method { descriptor }),
            None => {
                let names: Vec<String> = all().map(|method| shown(&method)).collect();
                let near = crate::expression::suggest(name, names.iter().map(String::as_str)).map(str::to_owned);
                Err((format!("there is no method `{name}`"), near))
            }
        }
    }
}

fn shown(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

impl Method {
    /// Makes a request's bytes of its JSON.
    ///
    /// # Errors
    /// One line: what does not fit.
    pub fn request(&self, json: &Payload) -> Result<Vec<u8>, String> {
        let mut reader = serde_json::Deserializer::from_str(json.text());
        let message = DynamicMessage::deserialize(self.descriptor.input(), &mut reader);
        Ok(message.map_err(|error| error.to_string())?.encode_to_vec())
    }

    /// Makes JSON of an answer's bytes; fields that have their default are there as well.
    ///
    /// # Errors
    /// One line: why it cannot be read.
    pub fn answer(&self, bytes: &[u8]) -> Result<Payload, String> {
        let message = DynamicMessage::decode(self.descriptor.output(), bytes).map_err(|error| error.to_string())?;
        let mut json = Vec::new();
        let options = SerializeOptions::new().skip_default_fields(false).stringify_64_bit_integers(true);
        message
            .serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options)
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8(json).map_err(|error| error.to_string())?;
        Payload::parse(text).map_err(|error| error.to_string())
    }

    /// Returns what a request may hold.
    #[must_use]
    pub fn fields(&self) -> Fields {
        Fields(Some(self.descriptor.input()))
    }
}

/// The fields of a message; none where any will do.
#[derive(Debug, Clone)]
pub struct Fields(Option<MessageDescriptor>);

impl Fields {
    /// Returns what stands in a field, going through lists.
    ///
    /// # Errors
    /// The names that there are.
    pub fn field(&self, name: &str) -> Result<Self, Vec<String>> {
        let Some(message) = &self.0 else { return Ok(Self(None)) };
        // Well-known types have a JSON of their own.
        if message.full_name().starts_with("google.protobuf.") || message.is_map_entry() {
            return Ok(Self(None));
        }
        let found = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
        match found {
            Some(field) if field.is_map() => Ok(Self(None)),
            Some(field) => Ok(Self(match field.kind() {
                Kind::Message(inner) => Some(inner),
                _ => None,
            })),
            None => Err(message.fields().map(|field| field.json_name().to_owned()).collect()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Descriptors that are kept as JSON, as `buf build -o tracking.json` writes them.
    pub(crate) fn tracking() -> Descriptors {
        let text = include_str!("../tests/tracking.descriptor.json");
        let set = DescriptorPool::global().get_message_by_name("google.protobuf.FileDescriptorSet").unwrap();
        let set = DynamicMessage::deserialize(set, &mut serde_json::Deserializer::from_str(text)).unwrap();
        Descriptors::parse(set.encode_to_vec()).unwrap()
    }

    #[test]
    fn messages_are_json() {
        let method = tracking().method("tracking.v1.Tracking/Announce").unwrap();
        let payload = |text: &str| Payload::parse(text).unwrap();
        let rows = [
            ("all", r#"{"orderId":"A-1","to":{"city":"Bern"},"grams":[1,"2"]}"#, Ok(17)),
            ("the proto's own names", r#"{"order_id":"A-1"}"#, Ok(5)),
            ("nothing", "{}", Ok(0)),
            ("no such field", r#"{"order":"A-1"}"#, Err("unrecognized field name 'order'")),
            ("another kind", r#"{"orderId":7}"#, Err("invalid type: integer `7`")),
            ("too large a number", r#"{"grams":[9223372036854775808]}"#, Err("out of range")),
        ];
        for (why, json, expected) in rows {
            match (method.request(&payload(json)), expected) {
                (Ok(bytes), Ok(length)) => assert_eq!(bytes.len(), length, "{why}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{why}: {error}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
        let answer = method.answer(&[0x0a, 1, b'P', 0x10, 7]).unwrap();
        assert_eq!(answer.text(), r#"{"parcelId":"P","number":"7","late":false}"#);
        assert!(method.answer(&[0x0a, 9, b'P']).is_err());
    }

    #[test]
    fn methods_and_fields() {
        let all = tracking();
        let near = |name: &str| all.method(name).map(|_| ()).unwrap_err();
        assert_eq!(near("tracking.v1.Tracking/Anounce").1.as_deref(), Some("tracking.v1.Tracking/Announce"));
        assert!(near("tracking.v1.Tracking/Watch").0.contains("is a stream"));
        let fields = all.method("tracking.v1.Tracking/Announce").unwrap().fields();
        assert_eq!(fields.field("order").unwrap_err(), ["orderId", "to", "grams"]);
        assert_eq!(fields.field("to").unwrap().field("town").unwrap_err(), ["city"]);
        assert!(fields.field("grams").unwrap().field("anything").is_ok());
        for bytes in [&b""[..], b"nothing", &[0x0a, 2, 0x0a, 0]] {
            assert!(Descriptors::parse(bytes.to_vec()).is_err(), "{bytes:?}");
        }
    }
}
