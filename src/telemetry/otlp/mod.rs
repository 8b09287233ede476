//! OTLP, the protocol of OpenTelemetry: the SDK's spans and this process's figures written into bytes, and one
//! client for gRPC and HTTP that both share. The bytes are written without the generated twin of each type.

mod client;
pub(super) mod metric;
pub(super) mod span;
mod wire;

pub(super) use client::{Client, Signal};

use wire::{bytes_field, bytes_len, text_field};

/// How the collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Port 4317 as a rule.
    #[default]
    Grpc,
    /// Protocol buffers over HTTP/1.1, port 4318 as a rule.
    Http,
}

/// Who sends: the parts of a message that stand once in front of its spans or figures.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    /// `Resource`
    resource: Vec<u8>,
    /// `InstrumentationScope`
    scope: Vec<u8>,
}

impl Sender {
    pub(super) fn new(service: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut resource = Vec::new();
        for (name, value) in [
            ("service.name", service),
            ("service.version", version),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "backstitch"),
            ("telemetry.sdk.version", version),
        ] {
            span::attribute(&mut resource, 1, name, &value.to_owned().into());
        }
        let mut scope = Vec::new();
        text_field(&mut scope, 1, "backstitch");
        text_field(&mut scope, 2, version);
        Self { resource, scope }
    }

    /// Puts an export request around items, each of which is field 2 of its scope's message. The shape is
    /// the same for spans and for figures.
    pub(super) fn request(&self, items: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let items_len: usize = items.iter().map(|item| item.as_ref().len()).sum();
        let scope_len = bytes_len(self.scope.len()) + items_len;
        let whole_len = bytes_len(self.resource.len()) + bytes_len(scope_len);
        let mut request = Vec::with_capacity(bytes_len(whole_len));
        wire::tag(&mut request, 1, wire::Kind::Bytes);
        wire::varint(&mut request, whole_len as u64);
        bytes_field(&mut request, 1, &self.resource);
        wire::tag(&mut request, 2, wire::Kind::Bytes);
        wire::varint(&mut request, scope_len as u64);
        bytes_field(&mut request, 1, &self.scope);
        items.iter().for_each(|item| request.extend_from_slice(item.as_ref()));
        request
    }
}
