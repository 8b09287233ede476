//! The configuration's sections → what each part takes.

use std::path::PathBuf;

use crate::config::{self, Config};
use crate::{api, bus, coordinator, events, journal, telemetry};

/// Events that the inbox knows by source and id; 48 bytes each.
const INBOX_EVENTS_MAX: usize = 1_000_000;

pub fn telemetry(config: &Config) -> telemetry::Settings {
    let telemetry = &config.telemetry;
    telemetry::Settings {
        otlp: telemetry.otlp.clone(),
        protocol: match telemetry.protocol {
            config::OtlpProtocol::Grpc => telemetry::Protocol::Grpc,
            config::OtlpProtocol::Http => telemetry::Protocol::Http,
        },
        service: telemetry.service.clone(),
        sampling: telemetry.sampling,
        log: telemetry.log.clone(),
        log_format: match telemetry.log_format {
            config::LogFormat::Auto => telemetry::Format::Auto,
            config::LogFormat::Text => telemetry::Format::Text,
            config::LogFormat::Json => telemetry::Format::Json,
        },
    }
}

pub fn journal(config: &Config) -> journal::Options {
    let journal = &config.journal;
    journal::Options {
        generation_bytes: journal.generation_bytes,
        retention: journal::Retention { age: journal.retention, bytes: journal.retention_bytes },
        keys_keep: journal.keys_keep,
        keys_max: journal.keys_max,
        inbox_window: journal.inbox_window,
        inbox_max: INBOX_EVENTS_MAX,
        free_bytes_min: journal.free_bytes_min,
        ..journal::Options::new(PathBuf::from(&journal.path))
    }
}

pub fn bus(config: &Config) -> bus::Options {
    let nats = &config.nats;
    let age = |span: Option<crate::time::Span>| span.map(crate::time::Span::to_std);
    bus::Options {
        monitor_urls: nats.monitor_url.iter().cloned().collect(),
        durability: match nats.durability {
            config::Durability::Strict => bus::Durability::Strict,
            config::Durability::TrustServer => bus::Durability::TrustServer,
        },
        credentials_file: nats.credentials_file.clone(),
        user: nats.user.clone(),
        ca: nats.ca.clone(),
        consumer: nats.consumer.clone(),
        replicas: usize::from(nats.replicas),
        events: bus::Limits { bytes_max: nats.events_bytes_max, age_max: age(nats.events_age_max) },
        dead_letters: bus::Limits { bytes_max: nats.dead_letters_bytes_max, age_max: age(nats.dead_letters_age_max) },
        event_bytes_max: nats.event_bytes_max,
        ack_pending_max: nats.max_ack_pending as usize,
        ..bus::Options::new(nats.url.clone())
    }
}

pub fn later_events(later: config::LaterEvents) -> coordinator::LaterEvents {
    match later {
        config::LaterEvents::Pass => coordinator::LaterEvents::Pass,
        config::LaterEvents::Wait => coordinator::LaterEvents::Wait,
    }
}

pub fn subscriptions(config: &Config) -> Vec<events::subscription::Subscription> {
    let one = |(name, given): (&crate::id::ServiceName, &config::Subscription)| events::subscription::Subscription {
        name: name.clone(),
        url: given.url.clone(),
        types: given.types.clone(),
        keys: given.keys.clone(),
        timeout: given.timeout,
        schedule: given.retry.clone(),
        concurrency: given.concurrency as usize,
        later: later_events(given.later_events),
        begins: match given.from_start {
            true => events::subscription::Begins::Start,
            false => events::subscription::Begins::Now,
        },
    };
    config.subscriptions.iter().map(one).collect()
}

pub fn outboxes(config: &Config) -> Vec<events::outbox_reader::OutboxTable> {
    let one = |(name, given): (&crate::id::ServiceName, &config::Outbox)| events::outbox_reader::OutboxTable {
        name: name.clone(),
        options: crate::postgres::Options {
            url: given.url.clone(),
            ca: given.ca.clone(),
            table: given.table.clone(),
            order: given.order.clone(),
        },
        source: given.source.clone(),
        poll: given.poll,
    };
    config.outboxes.iter().map(one).collect()
}

pub fn coordinator(config: &Config) -> coordinator::Options {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let servers = config.services.iter().map(|(name, service)| {
        let server = coordinator::Server {
            url: service.url.to_string().trim_end_matches('/').to_owned(),
            address: service.url.host().to_owned(),
            port: service.url.port(),
        };
        (name.clone(), server)
    });
    let notify = &config.notify;
    let kinds = [
        (notify.parked, coordinator::NoticeKind::Parked),
        (notify.compensated, coordinator::NoticeKind::Compensated),
        (notify.dead_letters, coordinator::NoticeKind::DeadLetter),
    ];
    coordinator::Options {
        notices: coordinator::NoticePolicy {
            kinds: kinds.into_iter().filter(|(on, _)| *on).map(|(_, kind)| kind).collect(),
            events: notify.events,
            // The configuration has looked at the address.
            webhook: notify.webhook.clone().and_then(|url| crate::notify::Webhook::new(url).ok()),
        },
        traces: coordinator::TracePolicy {
            link_after: config.telemetry.link_after,
            baggage: config.telemetry.baggage.clone(),
            failures: config.telemetry.failures,
            servers: servers.collect(),
        },
        shards: config.runs.workers.unwrap_or_else(cores),
        open_runs_max: config.runs.open_max as u64,
        await_keep: config.runs.await_keep,
        ..coordinator::Options::default()
    }
}

pub fn api(config: &Config) -> api::Options {
    let api = &config.api;
    api::Options {
        token: api.token.clone(),
        body_bytes_max: api.body_bytes_max,
        rate: api.rate,
        connections_max: api.connections_max as usize,
    }
}
