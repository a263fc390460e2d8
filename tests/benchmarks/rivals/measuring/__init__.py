"""Run turns and measure their processes."""
