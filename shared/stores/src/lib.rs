//! What is kept: documents, which analysts search, and state, which tells the next run how far the last one came.

pub mod documents;
pub mod folder;
pub mod retention;
mod sqlite;
pub mod state;
