"""x"""
import pytest
pytest_plugins = ["helpers"]
@pytest.mark.parametrize("variant", ["state_label", "prev_frame", "init"])
def test_x(run_of, variant):
    import time
    t=time.time()
    w=run_of(variant)
    print(variant, time.time()-t)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    a=EventAccumulator(str(w)); a.Reload(); print(a.Tags())
