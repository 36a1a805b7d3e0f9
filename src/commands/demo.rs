//! `demo`.
use super::Answer;
#[derive(Clone, Copy)]
pub(super) enum After { Leave, Stay }
pub(super) fn demo(_after: After) -> anyhow::Result<Answer> { Ok(Answer::No) }
