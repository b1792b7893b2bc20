"""The plain start of the pretraining lab: what it does otherwise than the tuned one."""

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH = 32


def test_windows_match_a_dense_reference(baseline):
    """Windowed attention equals softmax over exactly the window's keys, computed the slow way."""
    q, k, v = torch.randn(3, 2, 4, LENGTH, 8, generator=torch.Generator().manual_seed(0))
    fast = baseline.windowed_attention(LENGTH, 5, "cpu", flex=False)(q, k, v, 0.3)
    for t in range(LENGTH):
        near = slice(max(0, t - 4), t + 1)
        weights = torch.softmax(0.3 * (q[:, :, t : t + 1] @ k[:, :, near].mT), dim=-1)
        torch.testing.assert_close(fast[:, :, t], (weights @ v[:, :, near])[:, :, 0])


def test_the_last_layer_sees_the_whole_row(baseline):
    """A pattern of short windows leaves the last layer its full one, and a window is as wide as it says."""
    baseline.WINDOW_PATTERN = "S"
    assert [baseline.window_of_layer(layer, LENGTH) for layer in range(2)] == [8, LENGTH]
    assert baseline.window_mask(4, 2).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def test_adam_matches_torch(baseline):
    """Our few lines of Adam take the same steps as torch's."""
    gradients = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    ours, theirs = torch.zeros(7), torch.zeros(7, requires_grad=True)
    betas = (baseline.ADAM_BETA1, baseline.ADAM_BETA2)
    reference = torch.optim.Adam([theirs], lr=0.1, betas=betas, eps=1e-10)
    first, second = torch.zeros(7), torch.zeros(7)
    for step, gradient in enumerate(gradients, 1):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        baseline.adam_update(ours, first, second, step, 0.1)
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())
