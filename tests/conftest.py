"""What the tests share: the folder of third-party data, and quiet, repeatable numerics."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of numpy and torch, before they are imported

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("suite", deadline=None, max_examples=40, derandomize=True)
hypothesis.settings.load_profile("suite")
torch.set_num_threads(1)  # small batches: a second thread costs more than it brings


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder named by VPOP_DATA: skipped where unset, an error where it is set but missing."""
    name = os.environ.get("VPOP_DATA")
    if not name:
        pytest.skip("VPOP_DATA is not set")
    folder = Path(name)
    assert folder.is_dir(), f"VPOP_DATA names {folder}, which is not a folder"
    return folder
