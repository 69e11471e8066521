//! The one writer of SQLite, and what is done when a transaction ends badly.
//!
//! A transaction that nobody committed is taken back when the connection is given back. Where that fails, SQLite has
//! ended the transaction by itself, as it does when the disk is full or fails: the connection is thrown away and the
//! next writer opens the file anew, so that with space again everything goes on.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions};

use crate::store::StoreError;

/// The writer, one at a time.
pub(super) struct Writer {
    pub(super) pool: SqlitePool,
    /// Whether the last transaction was left open.
    is_open: Arc<AtomicBool>,
}

impl Writer {
    /// # Errors
    /// When the file cannot be opened.
    pub(super) async fn open(pool: SqlitePoolOptions, options: SqliteConnectOptions) -> Result<Self, StoreError> {
        let is_open = Arc::new(AtomicBool::new(false));
        let left_open = is_open.clone();
        let pool = pool.max_connections(1).after_release(move |connection, _| {
            let left_open = left_open.clone();
            Box::pin(async move {
                // What is answered false is closed.
                Ok(!left_open.swap(false, Ordering::AcqRel) || roll_back(connection).await)
            })
        });
        Ok(Self { pool: pool.connect_with(options).await?, is_open })
    }

    /// Takes the write lock before anything is read, so that nothing that is read is stale.
    pub(super) async fn begin(&self) -> Result<Writing, StoreError> {
        let mut writing =
            Writing { connection: self.pool.acquire().await?, is_open: self.is_open.clone(), done: false };
        let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut *writing.connection).await;
        // Given up in the middle nobody would know.
        writing.done = begun.is_err();
        begun?;
        Ok(writing)
    }
}

/// Answers whether there was a transaction to take back.
async fn roll_back(connection: &mut SqliteConnection) -> bool {
    let outcome = sqlx::query("ROLLBACK").execute(connection).await;
    if let Err(error) = &outcome {
        tracing::warn!(error = error as &dyn std::error::Error, "a transaction ended badly, the file is opened anew");
    }
    outcome.is_ok()
}

/// A transaction of the writer. Dropped without a commit it is taken back.
pub(super) struct Writing {
    connection: PoolConnection<Sqlite>,
    is_open: Arc<AtomicBool>,
    done: bool,
}

impl Writing {
    /// Commits: what was written is on disk.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT").execute(&mut *self.connection).await?;
        self.done = true;
        Ok(())
    }
}

impl Deref for Writing {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Writing {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Before the connection is given back, which is when somebody looks.
        if !self.done {
            self.is_open.store(true, Ordering::Release);
        }
    }
}
