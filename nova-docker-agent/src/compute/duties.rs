//! What every operation on an instance owes to Nova around its own work: the instance action event, the fault, and a task
//! state of its own that is never left behind (`wrap_instance_event`, `wrap_instance_fault` and `reverts_task_state` of nova-compute).

use serde_json::{Map, Value, json};
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use super::{Compute, defect::caught, error::Error, object};
use crate::{
    conductor::{EventFailure, is_refused},
    messaging::Context,
    objects::{Expected, TaskState, VmState},
};

/// Faults hold at most this many characters of message.
const FAULT_MESSAGE_CHARS: usize = 255;

/// Which of the duties an operation has; each operation names its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Duties<'a> {
    /// Name of the instance action event, as Nova's own compute service names it.
    pub event: &'static str,
    /// The tasks that it may have; one that fails leaves none of them. What else is there is somebody else's.
    pub tasks: &'a [TaskState],
    /// Sets vm_state to `error` when the operation fails, unless it was not to begin at all: a request that came twice, or late.
    pub errors_out: bool,
}

impl<'a> Duties<'a> {
    pub const fn of(event: &'static str, tasks: &'a [TaskState]) -> Self {
        Self { event, tasks, errors_out: false }
    }

    pub const fn erroring_out(self) -> Self {
        Self { errors_out: true, ..self }
    }
}

impl Compute {
    /// Runs `work` with its duties. A failure has been reported to Nova by the time this returns it.
    pub(super) fn operate<T>(
        &self,
        context: &Context,
        instance: Uuid,
        duties: Duties<'_>,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> {
        let span =
            info_span!("operation", name = duties.event, instance = %instance, request_id = context.request_id());
        // Put on the heap before it is awaited: an operation is large, and all around it would be as large, on one stack.
        let work = caught(work);
        async move {
            info!("started");
            // Whatever ends the container from now on is not the launch's fault.
            self.end_first_run(instance);
            self.start_event(context, instance, duties.event).await;
            let result = work.await;
            if let Err(error) = &result {
                self.report_failure(context, instance, duties, error).await;
            } else {
                info!("finished");
            }
            self.finish_event(context, instance, duties.event, result.as_ref().err()).await;
            self.put_off.ended(instance);
            result
        }
        .instrument(span)
    }

    /// The event is the user's view of progress; its absence must not stop the operation.
    pub(super) async fn start_event(&self, context: &Context, instance: Uuid, event: &str) {
        if let Err(error) = self.conductor.event_start(context, &instance.to_string(), event, &self.host).await {
            warn!(%error, "cannot record the start of the event");
        }
    }

    pub(super) async fn finish_event(&self, context: &Context, instance: Uuid, event: &str, error: Option<&Error>) {
        let failure = error.filter(|error| !error.is_gone()).map(|error| EventFailure {
            message: error.to_string(),
            traceback: format!("{error}\n{}", error.details()).trim_end().to_owned(),
        });
        if let Err(error) = self.conductor.event_finish(context, &instance.to_string(), event, failure.as_ref()).await {
            warn!(%error, "cannot record the end of the event");
        }
    }

    async fn report_failure(&self, context: &Context, instance: Uuid, duties: Duties<'_>, error: &Error) {
        if error.is_gone() {
            info!(%error, "given up: the instance is being deleted");
            return;
        }
        warn!(%error, "failed");
        self.record_fault(context, instance, error).await;
        let mut state = Map::new();
        if duties.errors_out {
            state.insert("vm_state".to_owned(), json!(VmState::Error));
        }
        if !duties.tasks.is_empty() {
            state.insert("task_state".to_owned(), Value::Null);
        }
        if !state.is_empty() && !error.is_unexpected_task_state() {
            let ours = Expected::OneOf(duties.tasks.iter().copied().map(Some).collect()).or_no_task();
            self.set_state(context, instance, Value::Object(state), &ours).await;
        }
    }

    /// Records why an operation failed, for `openstack server show`.
    pub(super) async fn record_fault(&self, context: &Context, instance: Uuid, error: &Error) {
        let text = error.to_string();
        let message: String = text.chars().take(FAULT_MESSAGE_CHARS).collect();
        let details = format!("{text}\n{}", error.details()).trim_end().to_owned();
        let created = self
            .conductor
            .create_fault(context, &instance.to_string(), error.fault_code(), &message, &details, &self.host)
            .await;
        if let Err(error) = created {
            warn!(%error, "cannot record the fault");
        }
    }

    /// Saves states on the way out of a failure; a row that is gone needs none. Whether that is done: else the instance, and what it
    /// holds, may be somebody else's by now.
    pub(super) async fn set_state(
        &self,
        context: &Context,
        instance: Uuid,
        fields: Value,
        expected: &Expected,
    ) -> bool {
        match self.conductor.save_instance(context, &instance.to_string(), object(fields), expected).await {
            Ok(_) => true,
            Err(error) if error.class() == Some("InstanceNotFound") => true,
            Err(error) if is_refused(&error) => {
                info!(%error, "the instance's state is left: somebody has changed it meanwhile");
                false
            }
            Err(error) => {
                warn!(%error, "cannot reset the instance's state");
                false
            }
        }
    }
}
