//! `GET /recordings/<callSid>.wav`: a file behind a signed link.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::UNIX_EPOCH;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, ReadBuf};

use super::App;
use super::error::ApiError;
use super::range::{Wanted, wanted};
use crate::recording::FileName;
use crate::store::{StoreError, calls};

/// Sends the file, or the part of it that is asked for. The link is the credential; a call that never was answers like
/// a forged link.
pub(super) async fn fetch(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, QueryRejection>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let forbidden = || ApiError::new(403, "bad_link", "The link is not valid or has expired; read the call again.");
    let (Ok(Path(name)), Ok(Query(query))) = (path, query) else { return Err(forbidden()) };
    let name = FileName::parse(&name).ok_or_else(forbidden)?;
    let of = |name: &str| query.get(name).map_or("", String::as_str);
    app.recordings.check(name, of("expires"), of("signature"), app.clock.now_ms()).map_err(|_| forbidden())?;

    let gone = || ApiError::new(404, "recording_gone", "The recording is no longer there.");
    let recordings = app.recordings.clone();
    let found = app.store.read(move |connection| {
        let call = calls::find_anywhere(connection, &name.id.to_string())?;
        Ok::<_, StoreError>(call.and_then(|call| recordings.find(&call, name.track)))
    });
    let path = found.await?.ok_or_else(gone)?;
    // A HEAD has no range (RFC 9110 §14.2).
    let range = headers.get(header::RANGE).filter(|_| method == Method::GET);
    let range = range.and_then(|range| range.to_str().ok());
    let sent = send(&path, range, headers.get(header::IF_RANGE)).await;
    let mut response = sent.map_err(|error| {
        // Deleted since it was found, or the disk fails.
        tracing::warn!("A recording cannot be sent ({error})");
        gone()
    })?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(name.format.media_type()));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

async fn send(path: &FilePath, range: Option<&str>, if_range: Option<&HeaderValue>) -> std::io::Result<Response> {
    let mut file = File::open(path).await?;
    let metadata = file.metadata().await?;
    let length = metadata.len();
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let etag = format!("\"{length:x}-{:x}\"", changed.as_nanos());
    // A part of another version would not fit to what the client has (RFC 9110 §13.1.5).
    let is_same = if_range.is_none_or(|tag| tag.as_bytes() == etag.as_bytes());
    let wanted = wanted(range.filter(|_| is_same), length);
    let (status, first, count) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0, length),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Wanted::Outside => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    file.seek(std::io::SeekFrom::Start(first)).await?;
    let mut response = Response::new(Body::new(Part { file, left: count, buffer: vec![0; CHUNK_BYTES].into() }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(count));
    headers.insert(header::ETAG, HeaderValue::try_from(etag).map_err(std::io::Error::other)?);
    let content_range = match wanted {
        Wanted::Whole => return Ok(response),
        Wanted::Part { first, last } => format!("bytes {first}-{last}/{length}"),
        Wanted::Outside => format!("bytes */{length}"),
    };
    headers.insert(header::CONTENT_RANGE, HeaderValue::try_from(content_range).map_err(std::io::Error::other)?);
    Ok(response)
}

/// So many bytes of a file, a chunk at a time. What is appended meanwhile is not sent.
struct Part {
    file: File,
    left: u64,
    buffer: Box<[u8]>,
}

impl hyper::body::Body for Part {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let part = self.get_mut();
        if part.left == 0 {
            return Poll::Ready(None);
        }
        let most = usize::try_from(part.left).unwrap_or(usize::MAX).min(part.buffer.len());
        let mut buffer = ReadBuf::new(&mut part.buffer[..most]);
        if let Err(error) = ready!(Pin::new(&mut part.file).poll_read(context, &mut buffer)) {
            return Poll::Ready(Some(Err(error)));
        }
        if buffer.filled().is_empty() {
            return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())));
        }
        part.left -= buffer.filled().len() as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(buffer.filled())))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// 64 KiB: two seconds of a stereo recording.
const CHUNK_BYTES: usize = 64 << 10;
