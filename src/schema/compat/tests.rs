//! What the checker says of pairs of schemas, with the reason for each row.
