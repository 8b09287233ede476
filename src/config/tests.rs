//! The reference is complete and documented; mistakes are found, all at once and in their places.

use std::collections::BTreeMap;
use std::io;

use super::*;

/// Surroundings of a test.
#[derive(Default)]
struct Given {
    variables: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, &'static str>,
}

impl Outside for Given {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|value| (*value).to_owned())
    }
    fn file(&self, path: &Path) -> io::Result<String> {
        let text = self.files.get(path.to_str().unwrap()).ok_or(io::ErrorKind::NotFound)?;
        Ok((*text).to_owned())
    }
}

fn given(variables: &[(&'static str, &'static str)], files: &[(&'static str, &'static str)]) -> Given {
    Given { variables: variables.iter().copied().collect(), files: files.iter().copied().collect() }
}

fn loaded(text: &str, given: &Given) -> Result<Config, Vec<Diagnostic>> {
    read(Some(Source { name: "test.yaml".to_owned(), text: text.to_owned() }), given)
}

/// Findings as `CODE line:column`.
fn findings(text: &str) -> Vec<String> {
    match loaded(text, &Given::default()) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(|one| format!("{} {}:{}", one.code, one.line, one.column)).collect(),
    }
}

/// The commented examples at the reference's end, as they would be uncommented.
fn example() -> String {
    let start = REFERENCE.find("\n# services:").expect("the example begins with `# services:`");
    REFERENCE[start..].lines().map(|line| line.strip_prefix("# ").unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_is_the_default() {
    let config = Config::default();
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(config.nats.durability, Durability::Strict);
    assert_eq!(config.journal.keys_keep, Span::parse("400d").unwrap());
    assert_eq!(config.telemetry.otlp.as_deref(), Some("http://127.0.0.1:4317"));
    assert!(config.services.is_empty());
    assert_eq!(loaded("", &Given::default()).unwrap(), config, "an empty file changes nothing");
    assert_eq!(loaded("nats:\n", &Given::default()).unwrap(), config, "nor does an empty section");
    let itself = loaded(REFERENCE, &Given::default()).unwrap();
    let names: Vec<&str> = itself.services.keys().map(ServiceName::as_str).collect();
    assert_eq!(names, ["inventory", "payments", "shipping"]);
    assert_eq!(Config { services: BTreeMap::new(), ..itself }, config, "it says of itself what is built in");
}

#[test]
fn every_key_has_a_comment_above_it() {
    let mut without = Vec::new();
    for (name, text) in [("reference", REFERENCE.to_owned()), ("example", example())] {
        let lines: Vec<&str> = text.lines().collect();
        let mut explained = std::collections::BTreeSet::new();
        for (at, line) in lines.iter().enumerate() {
            let Some((key, _)) = line.split_once(':').filter(|(key, _)| !key.trim_start().starts_with('#')) else {
                continue;
            };
            let commented = at > 0 && lines[at - 1].trim_start().starts_with('#');
            // In the example a key is explained where it comes first, and names are the author's.
            let indent = key.len() - key.trim_start().len();
            let known = name == "example" && (explained.contains(key) || indent <= 2);
            if !commented && !known {
                without.push(format!("{name}:{}: write above `{}` what it means", at + 1, key.trim()));
            }
            explained.insert(key.to_owned());
        }
    }
    assert!(without.is_empty(), "{}", without.join("\n"));
}

#[test]
fn the_example_of_services_loads() {
    let secrets = [
        ("/run/secrets/pay/token", "t0\n"),
        ("/run/secrets/ledger/password", "p\r\n"),
        ("/run/secrets/crm/key", "k"),
        ("/run/secrets/erp/client", "cl13nt"),
        ("/run/secrets/hooks/billing", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"),
        ("/run/secrets/hooks/repository", "s3cr3t of the repository"),
        ("/run/secrets/shop/database", "postgres://backstitch:pw@db/shop"),
    ];
    let config = loaded(&example(), &given(&[], &secrets)).unwrap_or_else(|found| panic!("{found:#?}"));
    let service = |name: &str| &config.services[&ServiceName::parse(name).unwrap()];
    let payments = service("payments");
    assert_eq!(payments.url.to_string(), "https://pay.example.com/v1");
    assert_eq!((payments.timeout, payments.sockets_max), (Some(Span::from_secs(2)), 32));
    assert_eq!(payments.limits().concurrency, 10);
    assert_eq!(payments.rate.map(|rate| (rate.count, rate.burst)), Some((20, 40)));
    assert!(matches!(&payments.auth, Some(crate::service::Auth::Bearer(token)) if token.expose() == "t0"));
    assert!(
        matches!(&service("ledger").auth, Some(crate::service::Auth::Basic { password, .. }) if password.expose() == "p")
    );
    assert!(matches!(&service("crm").auth, Some(crate::service::Auth::ApiKey { header, .. }) if header == "x-api-key"));
    let Some(crate::service::Auth::OAuth2(erp)) = &service("erp").auth else { panic!("erp signs in by oauth2") };
    assert_eq!((erp.token_url.to_string().as_str(), &*erp.client_id), ("https://idp.example.com/oauth/token", "saga"));
    assert_eq!(
        (erp.client_secret.expose().as_str(), &*erp.scopes),
        ("cl13nt", &["orders".to_owned(), "stock".to_owned()][..])
    );
    let billing = &config.subscriptions[&ServiceName::parse("billing").unwrap()];
    let types: Vec<&str> = billing.types.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(types, ["order.placed.v2", "order.shipped.v1"]);
    assert_eq!((billing.retry.len(), billing.keys.len(), billing.concurrency), (3, 1, 4));
    assert_eq!((billing.later_events, billing.from_start), (LaterEvents::Wait, true));
    for key in subscriptions::KEYS {
        assert!(example().contains(&format!("    {key}:")), "the example lacks `{key}`");
    }
    let shop = &config.outboxes[&ServiceName::parse("shop").unwrap()];
    assert_eq!((shop.table.as_str(), shop.order.as_str(), shop.source.as_str()), ("shop.outbox", "position", "/shop"));
    for key in outboxes::KEYS {
        assert!(example().contains(&format!("    {key}:")), "the example lacks `{key}`");
    }
    let repository = &config.webhooks[&ServiceName::parse("repository").unwrap()];
    assert_eq!(repository.scheme, crate::webhook::Scheme::Github);
    assert_eq!(repository.headers, ["x-github-event", "x-github-hook-id"]);
    for key in webhooks::KEYS {
        assert!(example().contains(&format!("    {key}:")), "the example lacks `{key}`");
    }
    // Every key of a service is in the example.
    for key in services::KEYS {
        assert!(example().contains(&format!("    {key}:")), "the example lacks `{key}`");
    }
}

#[test]
fn mistakes() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("nothing wrong", "api: { listen: 127.0.0.1:0 }", &[]),
        ("no document there", "services: { a: { url: http://a, openapi: gone.json } }", &["C006 1:42"]),
        ("not YAML", "nats: [", &["C002 1:7"]),
        ("two documents", "nats:\n---\napi:\n", &["C002 2:1"]),
        ("a tag", "nats: !x {}", &["C002 1:10"]),
        ("an anchor", "nats: &x {}", &["C002 1:10"]),
        ("a merge key", "nats:\n  <<: {}\n", &["C002 2:3"]),
        ("twice", "nats:\n  url: nats://a\n  url: nats://b\n", &["C003 3:3"]),
        ("unknown section", "bus:\n  url: nats://a\n", &["C004 1:1"]),
        ("unknown key", "nats:\n  urls: nats://a\n", &["C004 2:3"]),
        ("section of text", "nats: nats://a\n", &["C005 1:7"]),
        ("value is a mapping", "nats:\n  url: {}\n", &["C005 2:8"]),
        ("no value", "nats:\n  url:\n", &["C005 2:6"]),
        ("no number", "nats:\n  replicas: many\n", &["C006 2:13"]),
        ("grouped digits", "api:\n  body_bytes_max: 1_000_000\n", &["C006 2:19"]),
        ("out of range", "nats:\n  replicas: 9\n", &["C006 2:13"]),
        ("no unit", "journal:\n  retention: 7\n", &["C006 2:14"]),
        ("no word", "nats:\n  durability: srict\n", &["C006 2:15"]),
        ("no address", "api:\n  listen: localhost\n", &["C006 2:11"]),
        ("no rate", "api:\n  rate: fast\n", &["C006 2:9"]),
        ("no ratio", "telemetry:\n  sampling: 2\n", &["C006 2:13"]),
        ("no level", "telemetry:\n  log: infos\n", &["C006 2:8"]),
        ("no level of a module", "telemetry:\n  log: info,hyper=loud\n", &["C006 2:8"]),
        ("levels by module", "telemetry:\n  log: info,hyper=warn\n", &[]),
        ("variable not set", "nats:\n  url: ${env:NOWHERE}\n", &["C007 2:8"]),
        ("not closed", "nats:\n  url: ${env:NOWHERE\n", &["C006 2:8"]),
        ("an expression", "nats:\n  url: ${ $input }\n", &["C006 2:8"]),
        ("no secret", "api:\n  token: ${secret:api/token}\n", &["C008 2:10"]),
        ("secret from elsewhere", "api:\n  token: ${secret:../token}\n", &["C008 2:10"]),
        ("secret that shows", "nats:\n  url: nats://${secret:x}@a\n", &["C009 2:8"]),
        ("open to all", "api:\n  listen: 0.0.0.0:7070\n", &["C010 2:11"]),
        ("open with a token", "api:\n  listen: 0.0.0.0:7070\n  token: t\n", &[]),
        ("a user without a password", "nats:\n  user: saga\n", &["C005 2:9"]),
        ("no credentials there", "nats:\n  credentials_file: gone.creds\n", &["C006 2:21"]),
        ("no certificates there", "nats:\n  ca_file: gone.pem\n", &["C006 2:12"]),
        ("webhook without a secret", "webhooks:\n  a: {}\n", &["C005 2:3"]),
        ("webhook with a secret of another scheme", "webhooks:\n  a: { secret: \"too short\" }\n", &["C006 2:16"]),
        ("webhook with a short secret", "webhooks:\n  a: { scheme: slack, secret: short }\n", &["C006 2:31"]),
        ("webhook of an unknown scheme", "webhooks:\n  a: { scheme: gitlab, secret: s3cr3t-s3cr3t }\n", &["C006 2:16"]),
        (
            "webhook that stores a secret",
            "webhooks:\n  a: { scheme: slack, secret: s3cr3t-s3cr3t, headers: \"x-a, Authorization\" }\n",
            &["C006 2:55"],
        ),
        (
            "webhook with no header",
            "webhooks:\n  a: { scheme: slack, secret: s3cr3t-s3cr3t, headers: \"a b\" }\n",
            &["C006 2:55"],
        ),
        ("webhook with a name of nobody", "webhooks:\n  A: {}\n", &["C006 2:3"]),
        ("outbox without an address", "outboxes:\n  a: {}\n", &["C005 2:3"]),
        (
            "outbox with a statement as its table",
            "outboxes:\n  a: { url: \"postgres://a\", table: \"a; b\" }\n",
            &["C006 2:36"],
        ),
        ("subscription without secret", "subscriptions:\n  a: { url: \"http://a\" }\n", &["C005 2:3"]),
        (
            "subscription with a weak secret",
            "subscriptions:\n  a: { url: \"http://a\", secret: whsec_TWFu }\n",
            &["C006 2:33"],
        ),
        (
            "subscription to what is no type",
            "subscriptions:\n  a: { url: \"http://a\", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, types: order }\n",
            &["C006 2:80"],
        ),
        ("service without url", "services:\n  a: {}\n", &["C005 2:3"]),
        ("service with a wrong name", "services:\n  A: { url: \"http://a\" }\n", &["C006 2:3"]),
        ("service of text", "services:\n  a: http://a\n", &["C005 2:6", "C005 2:3"]),
        ("service, unknown key", "services:\n  a:\n    url: http://a\n    timeouts: 3s\n", &["C004 4:5"]),
        ("service over grpc without a descriptor", "services:\n  a: { url: \"grpc://a\" }\n", &["C005 2:3"]),
        ("no descriptor there", "services:\n  a: { url: \"grpc://a\", descriptor: gone.pb }\n", &["C006 2:37"]),
        ("graphql", "services:\n  a: { url: \"http://a\", protocol: graphql }\n", &[]),
        ("nats over http", "services:\n  a: { url: \"http://a\", protocol: nats }\n", &["C006 2:35"]),
        ("http over nats", "services:\n  a: { url: \"nats://a\", protocol: http }\n", &["C006 2:35"]),
        ("nats with a path", "services:\n  a: { url: \"nats://a/b\" }\n", &["C006 2:13"]),
        ("password in the url", "services:\n  a: { url: \"http://u:p@a\" }\n", &["C006 2:13"]),
        ("timeout of nothing", "services:\n  a: { url: \"http://a\", timeout: 0s }\n", &["C006 2:34"]),
        ("burst without rate", "services:\n  a: { url: \"http://a\", rate_limit: { burst: 3 } }\n", &["C005 2:46"]),
        (
            "auth of two kinds",
            "services:\n  a: { url: \"http://a\", auth: { bearer: a, basic: {} } }\n",
            &["C005 2:31"],
        ),
        (
            "oauth2 of nothing",
            "services:\n  a: { url: \"http://a\", auth: { oauth2: {} } }\n",
            &["C005 2:33", "C005 2:33", "C005 2:33"],
        ),
        (
            "oauth2 with a quoted scope",
            "services:\n  a: { url: \"http://a\", auth: { oauth2: { token_url: \"http://b\", client_id: c, client_secret: d, \
             scopes: [\"e f\"] } } }\n",
            &["C006 2:106"],
        ),
        (
            "oauth2 over nats",
            "services:\n  a: { url: \"http://a\", auth: { oauth2: { token_url: \"nats://b\", client_id: c, client_secret: d } } }\n",
            &["C006 2:54"],
        ),
        (
            "auth without password",
            "services:\n  a: { url: \"http://a\", auth: { basic: { username: u } } }\n",
            &["C005 2:33"],
        ),
        (
            "header with a space",
            "services:\n  a: { url: \"http://a\", auth: { api_key: { header: a b, value: c } } }\n",
            &["C006 2:52"],
        ),
        (
            "five at once",
            "nats:\n  ulr: x\n  replicas: 0\napi:\n  listen: nowhere\njournal:\n  retention: 7\nservises: {}\n",
            &["C004 2:3", "C006 3:13", "C006 5:11", "C006 7:14", "C004 8:1"],
        ),
    ];
    let mut wrong = Vec::new();
    for (why, text, expected) in rows {
        let mut expected: Vec<&str> = expected.to_vec();
        let mut found = findings(text);
        found.sort();
        expected.sort_unstable();
        if found != expected {
            wrong.push(format!("{why}: {found:?}, expected {expected:?}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_finding_shows_its_line() {
    let found = loaded("nats:\n  durability: srict # yes\n", &Given::default()).unwrap_err();
    assert_eq!(
        found[0].to_string(),
        "error[C006]: `nats.durability` cannot be `srict`\n --> test.yaml:2:15\n  |\n2 |   durability: srict # yes\n  |               ^^^^^\n  |\n  = help: did you mean `strict`?"
    );
    let found = loaded("keys: {}\n", &Given::default()).unwrap_err();
    assert_eq!(found[0].help, "did you mean `journal.keys`?");
}

#[test]
fn the_environment_counts() {
    let text = "nats:\n  url: nats://${env:HOST}:${env:PORT:-4222}\napi:\n  token: ${secret:api/token}\n  listen: ${env:EMPTY:-127.0.0.1:1}\ntelemetry:\n  service: $${env:HOST}\n";
    let variables =
        [("HOST", "h"), ("BACKSTITCH_SECRET_API_TOKEN", "hunter2"), ("EMPTY", ""), ("BACKSTITCH_LOG", "debug")];
    let config = loaded(text, &given(&variables, &[])).unwrap_or_else(|found| panic!("{found:#?}"));
    assert_eq!(config.nats.url, "nats://h:4222");
    assert_eq!(config.api.token.as_ref().map(|token| token.expose().as_str()), Some("hunter2"));
    assert_eq!((config.api.listen.port(), config.telemetry.service.as_str()), (1, "${env:HOST}"));
    assert_eq!(config.telemetry.log, "debug", "also inside the reference");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_file_that_is_not_there() {
    let found = Config::load(Some(Path::new("nowhere/backstitch.yaml"))).unwrap_err();
    assert_eq!((found.len(), found[0].code, found[0].line), (1, "C001", 0));
}

#[test]
fn every_code_is_explained() {
    let page = include_str!("../../docs/configuration.md");
    let source = include_str!("diagnostic.rs");
    let codes: Vec<&str> = source.split('"').filter(|word| word.len() == 4 && word.starts_with('C')).collect();
    assert_eq!(codes.len(), 10);
    for code in codes {
        assert!(page.contains(&format!("| {code} |")), "docs/configuration.md lacks {code}");
    }
}

/// Whatever a file holds, it is read or refused with places that are in it.
#[test]
fn damaged_files_are_refused_in_words() {
    let whole: &str = REFERENCE;
    let cut = (0..whole.len()).step_by(41).filter(|at| whole.is_char_boundary(*at)).map(|at| whole[..at].to_owned());
    let marks = ["{", "[", "\"", "&a ", "*a", "!", "- ", "? ", ": ", "\t", "\u{feff}", "\0", "${", "|", "%"];
    // Where values stand: in comments a mark does no harm.
    let starts =
        whole.match_indices('\n').map(|(at, _)| at + 1).filter(|at| !whole[*at..].trim_start().starts_with('#'));
    let values = starts.filter_map(|at| whole[at..].find(':').map(|colon| at + colon + 1)).collect::<Vec<_>>();
    let inserted = marks
        .iter()
        .flat_map(|mark| values.iter().step_by(5).map(move |at| format!("{} {mark}{}", &whole[..*at], &whole[*at..])));
    let mut refused = 0;
    for text in cut.chain(inserted) {
        let Err(found) = loaded(&text, &Given::default()) else { continue };
        refused += 1;
        for one in found {
            assert!(one.line <= text.lines().count() + 1, "{one}");
            assert!(!one.help.is_empty() && !one.message.contains('\n'), "{one}");
        }
    }
    assert!(refused > 100, "{refused}");
}
