//! The outbox table of a service in PostgreSQL: rows that its transactions wrote beside their own changes
//! (Debezium's outbox shape, and columns for tracing). Reads what is committed, removes what is published.
//!
//! Rows are never looked for behind the last one that was read: a transaction with a lower position may
//! commit later. Every committed row that is still there is to be published.

use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::secret::Secret;
use crate::trust;

/// Rows read at a time.
const ROWS_MAX: usize = 256;
/// A database near by answers a connection in milliseconds.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Columns that the table must have.
const NEEDED: [&str; 5] = ["id", "aggregatetype", "aggregateid", "type", "payload"];

/// Which table, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// `postgres://user:password@host/database`, over TLS with `?sslmode=require`.
    pub url: Secret<String>,
    /// Certificates (PEM) trusted beside the public ones.
    pub ca: Option<Vec<u8>>,
    /// `outbox`, or with its schema.
    pub table: String,
    /// The column that rows are published in the order of.
    pub order: String,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub event_type: String,
    /// JSON text, none where the column is null.
    pub payload: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub correlation_id: Option<String>,
    pub causation_id: Option<String>,
}

/// Why the table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is no name of a table or column: letters, digits and `_`, a schema in front with a dot")]
    Name(String),
    #[error("the address is no PostgreSQL address: {0}")]
    Address(String),
    #[error("PostgreSQL: {0}")]
    Certificates(String),
    #[error("PostgreSQL cannot be reached: {0}")]
    Unreachable(String),
    #[error("table {table} has no column `{column}`; {help}")]
    Column { table: String, column: String, help: &'static str },
    #[error("there is no table {0}; create it as docs/bus.md shows")]
    NoTable(String),
    #[error("another process reads table {0}; two would mix up the order")]
    Busy(String),
    #[error("table {table}: {why}")]
    Query { table: String, why: String },
}

/// Reads an address.
fn address(url: &str) -> Result<Config, Error> {
    // The parser's own words may repeat the password; only what kind of mistake it is goes out.
    url.parse().map_err(|_| Error::Address("write postgres://user:password@host/database".into()))
}

/// Connects; over TLS where the address says `sslmode=require`, and never with a certificate unchecked. `prefer`, the
/// client's default, would take whoever answers for the server: it is plain here.
async fn connect(options: &Options) -> Result<Client, Error> {
    let mut config = address(options.url.expose())?;
    config.connect_timeout(CONNECT_WAIT).application_name("backstitch");
    let unreachable = |error: tokio_postgres::Error| Error::Unreachable(shown(&error));
    // The connection ends when the client is dropped, or breaks: then every query says so.
    if config.get_ssl_mode() == SslMode::Require {
        let tls = trust::client(options.ca.as_deref(), &[]).map_err(Error::Certificates)?;
        let tls = MakeRustlsConnect::new(tls);
        let (client, connection) = config.connect(tls).await.map_err(unreachable)?;
        tokio::spawn(async move { connection.await.ok() });
        return Ok(client);
    }
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await.map_err(unreachable)?;
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

/// A connection that reads one table, alone.
pub struct Table {
    client: Client,
    table: String,
    select: String,
    delete: String,
}

impl Table {
    /// Connects, looks at the table's columns and takes the lock that keeps a second reader away.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open(options: &Options) -> Result<Self, Error> {
        let table = quoted(&options.table)?;
        let order = quoted(&options.order)?;
        let client = connect(options).await?;
        let query = |error: tokio_postgres::Error| Error::Query { table: options.table.clone(), why: shown(&error) };
        let found = client
            .query(
                "SELECT attname::text FROM pg_attribute \
                 WHERE attrelid = to_regclass($1::text)::oid AND attnum > 0 AND NOT attisdropped",
                &[&table],
            )
            .await
            .map_err(query)?;
        let columns: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        if columns.is_empty() {
            return Err(Error::NoTable(options.table.clone()));
        }
        let missing =
            |column: &str, help| Error::Column { table: options.table.clone(), column: column.to_owned(), help };
        for column in NEEDED {
            if !columns.iter().any(|known| known == column) {
                return Err(missing(column, "the shape is that of Debezium's outbox"));
            }
        }
        if !columns.contains(&options.order) {
            return Err(missing(&options.order, "add `position bigint GENERATED ALWAYS AS IDENTITY`, or set `order`"));
        }
        let lock = client.query_one("SELECT pg_try_advisory_lock(hashtextextended($1::text, 0))", &[&table]).await;
        if !lock.map_err(query)?.get::<_, bool>(0) {
            return Err(Error::Busy(options.table.clone()));
        }
        let optional = |column: &str| match columns.iter().any(|known| known == column) {
            true => format!("{column}::text"),
            false => "NULL::text".to_owned(),
        };
        let more: Vec<String> = ["traceparent", "tracestate", "correlationid", "causationid"]
            .iter()
            .map(|column| optional(column))
            .collect();
        let select = format!(
            "SELECT id::text, aggregatetype::text, aggregateid::text, type::text, payload::text, {} \
             FROM {table} ORDER BY {order}, id LIMIT {ROWS_MAX}",
            more.join(", ")
        );
        let delete = format!("DELETE FROM {table} WHERE id::text = ANY($1::text[])");
        Ok(Self { client, table: options.table.clone(), select, delete })
    }

    /// Returns the first committed rows, in order.
    ///
    /// # Errors
    /// [`Error::Query`]: open the table again.
    pub async fn rows(&self) -> Result<Vec<Row>, Error> {
        let rows = self.client.query(&self.select, &[]).await.map_err(|error| self.failed(&error))?;
        let read = |row: &tokio_postgres::Row| -> Result<Row, tokio_postgres::Error> {
            Ok(Row {
                id: row.try_get(0)?,
                aggregate_type: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
                aggregate_id: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
                event_type: row.try_get::<_, Option<String>>(3)?.unwrap_or_default(),
                payload: row.try_get(4)?,
                traceparent: row.try_get(5)?,
                tracestate: row.try_get(6)?,
                correlation_id: row.try_get(7)?,
                causation_id: row.try_get(8)?,
            })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.failed(&error))
    }

    /// Removes rows that are published; those that are gone already do no harm.
    ///
    /// # Errors
    /// [`Error::Query`]: they are published again, with the same ids.
    pub async fn remove(&self, ids: &[String]) -> Result<u64, Error> {
        self.client.execute(&self.delete, &[&ids]).await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &tokio_postgres::Error) -> Error {
        Error::Query { table: self.table.clone(), why: shown(error) }
    }
}

/// Writes an error with its cause: the client's own words say only what kind it is.
fn shown(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Quotes a name, so that it is nothing but one.
///
/// # Errors
/// [`Error::Name`].
pub fn quoted(name: &str) -> Result<String, Error> {
    let good = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() > 2 || !parts.iter().all(|part| good(part)) {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(parts.iter().map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let rows: &[(&str, &str, Option<&str>)] = &[
            ("a table", "outbox", Some("\"outbox\"")),
            ("with its schema", "shop.Outbox_2", Some("\"shop\".\"Outbox_2\"")),
            ("a database in front", "db.shop.outbox", None),
            ("a quote", "out\"box", None),
            ("a statement", "outbox; DROP TABLE orders", None),
            ("nothing", "", None),
            ("a digit first", "2outbox", None),
        ];
        for (why, name, expected) in rows {
            assert_eq!(quoted(name).ok().as_deref(), *expected, "{why}: {name}");
        }
    }

    #[test]
    fn addresses() {
        let rows = [
            ("an address", "postgres://shop:pw@db/shop", true),
            ("with a choice of TLS", "postgres://shop:pw@db/shop?sslmode=prefer", true),
            ("TLS", "postgres://shop:pw@db/shop?sslmode=require", true),
            ("another database", "mysql://shop:secret@db/shop", false),
        ];
        for (why, url, good) in rows {
            let read = address(url);
            assert_eq!(read.is_ok(), good, "{why}");
            assert!(read.is_ok() || !format!("{:?}", address(url)).contains("secret"), "{why}");
        }
    }
}
