//! Every service, each spoken to in its own protocol.

use futures_util::future::BoxFuture;

use super::grpc::GrpcConnector;
use super::http::HttpConnector;
use super::nats::NatsConnector;
use super::{Call, Connector, Error, Figures};
use crate::id::ServiceName;
use crate::request::Attempt;
use crate::service::{Protocol, Service};

/// Calls the services it was given. Cloning shares them.
#[derive(Clone, Default)]
pub struct Services {
    http: HttpConnector,
    nats: NatsConnector,
    grpc: GrpcConnector,
}

impl Services {
    /// Makes a connector to these services.
    ///
    /// # Errors
    /// [`Error`] for a secret that cannot be sent or certificates that cannot be read.
    pub fn new(services: impl IntoIterator<Item = (ServiceName, Service)>) -> Result<Self, Error> {
        let all = Self::default();
        for (name, service) in services {
            all.add(name, service)?;
        }
        Ok(all)
    }

    /// Adds a service, or puts another in the place of one; calls in flight end where they began.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn add(&self, name: ServiceName, service: Service) -> Result<(), Error> {
        let protocol = service.protocol;
        match protocol {
            Protocol::Http | Protocol::Graphql | Protocol::Soap => self.http.add(name.clone(), service)?,
            Protocol::Nats => self.nats.add(name.clone(), service)?,
            Protocol::Grpc => self.grpc.add(name.clone(), service)?,
        }
        // It may have had another protocol before.
        if matches!(protocol, Protocol::Nats | Protocol::Grpc) {
            self.http.remove(&name);
        }
        if protocol != Protocol::Nats {
            self.nats.remove(&name);
        }
        if protocol != Protocol::Grpc {
            self.grpc.remove(&name);
        }
        Ok(())
    }

    /// Returns what is going on, by service.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let mut figures = self.http.figures();
        figures.extend(self.nats.figures());
        figures.extend(self.grpc.figures());
        figures
    }
}

impl Connector for Services {
    fn call(&self, call: Call) -> BoxFuture<'static, Attempt> {
        let service = &call.request.service;
        if self.nats.has(service) {
            self.nats.call(call)
        } else if self.grpc.has(service) {
            self.grpc.call(call)
        } else {
            self.http.call(call)
        }
    }
}
