from tensorboardX.proto import event_pb2

from perlsim.readers.tfrecord import records
from perlsim.training.run_log import JsonLines, Logs, TensorBoard, read_lines


def test_lines_come_back_without_those_after_the_update_that_a_run_goes_on_from(tmp_path):
    log = JsonLines(tmp_path / "stage" / "log.jsonl")
    for update in (10, 20, 30):
        log.write(update, {"loss": 1 / update})
    log.close()
    with log.path.open("ab") as file:
        file.write(b'{"update": 40, "lo')
    assert [line["update"] for line in read_lines(log.path)] == [10, 20, 30]
    log.rewind(20)
    log.write(30, {"loss": 0.5})
    log.close()
    assert read_lines(log.path)[1:] == [{"update": 20, "loss": 0.05}, {"update": 30, "loss": 0.5}]
    assert len(log.path.read_bytes().splitlines()) == 3


def test_tensorboard_gets_the_same_figures(tmp_path):
    log = Logs([JsonLines(tmp_path / "log.jsonl"), TensorBoard(tmp_path / "tensorboard")])
    log.write(10, {"loss": 0.25, "validation/score": 3.0})
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = [event_pb2.Event.FromString(data) for _, data in records(file)]
    values = {
        value.tag: (event.step, value.simple_value) for event in events for value in event.summary.value
    }
    assert values == {"loss": (10, 0.25), "validation/score": (10, 3.0)}
