"""Snapshots, and images of servers that are deleted before theirs, against the fake agent."""

import threading

import pytest
from conftest import IMAGE, INSTANCE, TOKEN, eventually, settle
from nova import exception
from nova.compute import task_states
from nova.image import glance
from nova_docker import snapshot

OTHER_IMAGE = "9b0bd9c3-3f0c-4a55-9d0c-5f8f4cfcf2d4"


class Recorder(list):
    """The manager's update_task_state."""

    def __call__(self, task_state, expected_state="whatever it was before"):
        self.append((task_state, expected_state))


def test_a_snapshot_takes_the_task_states_that_nova_expects(driver, running, fake_agent, context, instance):
    states = Recorder()
    driver.snapshot(context, instance, IMAGE, states)
    assert states == [
        (task_states.IMAGE_PENDING_UPLOAD, "whatever it was before"),
        (task_states.IMAGE_UPLOADING, task_states.IMAGE_PENDING_UPLOAD),
    ]
    (call,) = fake_agent.calls("SnapshotGuest")
    assert call["request"] == {"guest_id": INSTANCE, "image_id": IMAGE, "project_id": "red"}
    assert call["metadata"]["x-auth-token"] == TOKEN


def test_a_server_that_is_deleted_during_its_snapshot_cancels_it(driver, running, fake_agent, context, instance):
    fake_agent.hold("SnapshotGuest")

    def deleted(**arguments):
        raise exception.UnexpectedDeletingTaskStateError(instance_uuid=INSTANCE, expected={}, actual={})

    with pytest.raises(exception.UnexpectedDeletingTaskStateError):
        driver.snapshot(context, instance, IMAGE, deleted)
    assert eventually(lambda: fake_agent.control()["cancelled"] == ["SnapshotGuest"])


class Images:
    """Glance, with images that have no data yet."""

    def __init__(self, monkeypatch, *unbegun, gone=(), lists=True):
        self.asked, self.deleted = [], []
        self.answers = threading.Event()
        self.answers.set()

        def get_all(api, context, filters):
            self.answers.wait()
            self.asked.append((context.auth_token, filters))
            if not lists:
                raise exception.GlanceConnectionFailed(server="glance", reason="refused")
            return [{"id": image} for image in unbegun]

        def delete(api, context, image):
            if image in gone:
                raise exception.ImageNotFound(image_id=image)
            self.deleted.append((context.auth_token, image))

        monkeypatch.setattr(glance.API, "get_all", get_all)
        monkeypatch.setattr(glance.API, "delete", delete)


def test_a_snapshot_that_had_not_begun_goes_with_its_server(driver, running, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE)
    instance.task_state = task_states.DELETING
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    # With the rights of who deletes the server.
    assert images.asked == [(TOKEN, {"instance_uuid": INSTANCE, "status": "queued"})]
    assert images.deleted == [(TOKEN, IMAGE)]


@pytest.mark.parametrize("state", [None, task_states.REBUILDING, task_states.SHELVING_OFFLOADING])
def test_snapshots_stay_when_the_server_does(driver, running, context, instance, monkeypatch, state):
    images = Images(monkeypatch, IMAGE)
    instance.task_state = state
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    assert images.asked == images.deleted == []


def test_nova_itself_has_no_rights_to_images(driver, running, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE)
    instance.task_state = task_states.DELETING
    context.auth_token = None
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    assert images.asked == images.deleted == []


def test_a_server_goes_without_glance(driver, running, fake_agent, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE, lists=False)
    instance.task_state = task_states.DELETING
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    assert fake_agent.control()["guests"] == {}
    assert len(images.asked) == 1


def test_a_server_does_not_wait_for_glance(driver, running, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE)
    images.answers.clear()
    instance.task_state = task_states.DELETING
    driver.destroy(context, instance, None)
    assert images.asked == []
    images.answers.set()
    settle(driver._images._background)
    assert images.deleted == [(TOKEN, IMAGE)]


def test_a_glance_that_hangs_takes_few_threads_and_no_deletion_is_forgotten(
    driver, running, context, instance, monkeypatch
):
    images = Images(monkeypatch)
    images.answers.clear()
    instance.task_state = task_states.DELETING
    before = threading.active_count()
    for _ in range(30):
        driver.destroy(context, instance, None)
    assert threading.active_count() <= before + snapshot.THREADS
    images.answers.set()
    settle(driver._images._background)
    assert len(images.asked) == 30


def test_images_that_nobody_can_look_for_are_told_in_the_log(driver, running, context, instance, monkeypatch, caplog):
    images = Images(monkeypatch)
    images.answers.clear()
    instance.task_state = task_states.DELETING
    monkeypatch.setattr(driver._images._background, "_limit", 1)
    for _ in range(snapshot.THREADS + 2):
        driver.destroy(context, instance, None)
    images.answers.set()
    settle(driver._images._background)
    assert len(images.asked) == snapshot.THREADS + 1
    assert "may stay: Glance is too slow" in caplog.text


def test_an_image_that_is_gone_already_does_not_keep_the_others(driver, running, context, instance, monkeypatch):
    images = Images(monkeypatch, IMAGE, OTHER_IMAGE, gone=[IMAGE])
    instance.task_state = task_states.DELETING
    driver.destroy(context, instance, None)
    settle(driver._images._background)
    assert images.deleted == [(TOKEN, OTHER_IMAGE)]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("GUEST_NOT_FOUND", exception.InstanceNotRunning),
        ("IMAGE_NOT_FOUND", exception.ImageNotFound),
        ("IMAGE_UNAVAILABLE", exception.NovaException),
    ],
)
def test_a_failed_snapshot_is_told_as_the_manager_cleans_up_after(
    driver, running, fake_agent, context, instance, reason, expected
):
    fake_agent.fail("SnapshotGuest", "NOT_FOUND", reason)
    with pytest.raises(expected) as caught:
        driver.snapshot(context, instance, IMAGE, Recorder())
    assert type(caught.value) is expected
