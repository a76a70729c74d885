//! From rows to predictions: a place among the requests worked on, and a processor.

use std::sync::Arc;

use vitrine_model::Prediction;

use super::error::Problem;
use crate::app::App;
use crate::served::{Served, Table};

/// Bytes of text up to which rows are scored where the request is read: about a millisecond. More
/// goes to a thread of its own, or it would hold up every other connection of the event loop.
const INLINE_BYTES: usize = 16 * 1024;
/// Rows up to which the same holds.
const INLINE_ROWS: usize = 16;

/// Scores the rows; `pick` says what is kept of each prediction.
pub async fn score<T, F>(
    app: &Arc<App>,
    served: &Arc<Served>,
    table: Table,
    mut pick: F,
) -> Result<Vec<T>, Problem>
where
    T: Send + 'static,
    F: FnMut(&Prediction) -> T + Send + 'static,
{
    check(app, &table)?;
    let limit = app.limits.max_concurrency;
    let slot = app
        .enter()
        .ok_or_else(|| Problem::overloaded(format!("{limit} predictions are being worked on already")))?;
    let counted = Arc::clone(app);
    let pick = move |prediction: &Prediction| {
        counted.metrics.predicted(prediction.class());
        pick(prediction)
    };
    if table.rows() <= INLINE_ROWS && table.bytes() <= INLINE_BYTES {
        return Ok(served.score(&table, pick));
    }
    // a client that gives up while it waits here costs nothing more
    let processor = Arc::clone(&app.processors).acquire_owned().await;
    let processor = processor.map_err(|_| Problem::internal("the server is ending"))?;
    let served = Arc::clone(served);
    let scored = tokio::task::spawn_blocking(move || {
        let _held = (slot, processor);
        served.score(&table, pick)
    });
    scored.await.map_err(|error| Problem::internal(format!("scoring ended: {error}")))
}

fn check(app: &App, table: &Table) -> Result<(), Problem> {
    let limit = app.limits.max_items;
    match table.rows() {
        0 => Err(Problem::bad("NoItems", "there is no row to predict")),
        rows if rows > limit => {
            Err(Problem::bad("TooManyItems", format!("{rows} rows, at most {limit} are taken at once")))
        }
        _ => Ok(()),
    }
}
