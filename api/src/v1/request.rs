//! What a request asks for. As axum reads it, but what cannot be read is answered by a problem.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path as AxumPath, Query as AxumQuery, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The parameters of the query.
pub(super) struct Query<T>(pub(super) T);

/// The parameters of the path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = AxumQuery::from_request_parts(parts, state).await;
        let AxumQuery(asked) =
            asked.map_err(|error| Problem::invalid("query", error.body_text()))?;
        Ok(Self(asked))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asked = AxumPath::from_request_parts(parts, state).await;
        let AxumPath(asked) = asked.map_err(|error| Problem::invalid("path", error.body_text()))?;
        Ok(Self(asked))
    }
}

/// A body of JSON. An empty one is an object without members; what it calls itself does not matter.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| Problem::invalid("body", error.body_text()))?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        let body = serde_json::from_slice(&bytes);
        Ok(Self(body.map_err(|error| Problem::invalid("body", error))?))
    }
}
