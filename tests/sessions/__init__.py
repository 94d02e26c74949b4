import pytest

for name in ("contract", "machine", "samples"):
    pytest.register_assert_rewrite(f"{__name__}.{name}")
