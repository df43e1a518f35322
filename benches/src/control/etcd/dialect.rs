//! Puts, ranges and status of etcd, as its own client sends them.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, HeaderValue, Method, header};

use super::protobuf::{self, Field};
use crate::control::dialect::{Dialect, Key, VALUE_BYTES, value};
use crate::control::link::{Answer, Ask};

/// Field numbers of etcd's messages.
mod field {
    pub const PUT_KEY: u64 = 1;
    pub const PUT_VALUE: u64 = 2;
    pub const RANGE_KEY: u64 = 1;
    pub const RANGE_KVS: u64 = 2;
    pub const KV_VALUE: u64 = 5;
    pub const HEADER: u64 = 1;
    pub const HEADER_MEMBER: u64 = 2;
    pub const STATUS_LEADER: u64 = 4;
}

/// etcd 3.4 over gRPC.
#[derive(Debug)]
pub struct Etcd;

impl Dialect for Etcd {
    fn write(&self, key: Key) -> Ask {
        let (name, value) = (name(key), value(key));
        let fields = [
            Field::Bytes(field::PUT_KEY, name.as_bytes()),
            Field::Bytes(field::PUT_VALUE, value.as_bytes()),
        ];
        call("/etcdserverpb.KV/Put", &fields)
    }

    fn read(&self, key: Key) -> Ask {
        // Linearizable unless `serializable` is set.
        let name = name(key);
        call("/etcdserverpb.KV/Range", &[Field::Bytes(field::RANGE_KEY, name.as_bytes())])
    }

    fn check_write(&self, answer: &Answer) -> Result<()> {
        message(answer).map(drop)
    }

    fn check_read(&self, answer: &Answer) -> Result<()> {
        let fields = protobuf::fields(message(answer)?)?;
        let found = protobuf::bytes(&fields, field::RANGE_KVS).context("the key is not there")?;
        let value = protobuf::bytes(&protobuf::fields(found)?, field::KV_VALUE);
        ensure!(value.map(<[u8]>::len) == Some(VALUE_BYTES), "the value is another");
        Ok(())
    }

    fn status(&self) -> Ask {
        call("/etcdserverpb.Maintenance/Status", &[])
    }

    fn leads(&self, _: SocketAddr, answer: &Answer) -> Result<Option<bool>> {
        let fields = protobuf::fields(message(answer)?)?;
        let header = protobuf::bytes(&fields, field::HEADER).context("a status without header")?;
        let own = protobuf::number(&protobuf::fields(header)?, field::HEADER_MEMBER);
        let leader = protobuf::number(&fields, field::STATUS_LEADER);
        Ok((leader != 0).then_some(leader == own))
    }
}

fn name(key: Key) -> String {
    format!("/bench/{:04}/{:02}", key.client, key.place())
}

fn call(path: &str, fields: &[Field<'_>]) -> Ask {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let body = protobuf::message(fields);
    Ask { method: Method::POST, path: path.to_owned(), headers, body }
}

fn message(answer: &Answer) -> Result<&[u8]> {
    let text = |name| answer.trailers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (code, words) = (text("grpc-status"), text("grpc-message").unwrap_or_default());
    ensure!(code == Some("0"), "etcd answered {code:?} {words}, HTTP {}", answer.status);
    protobuf::unframed(&answer.body)
}
