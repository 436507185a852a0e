"""The paper's recurrent pyramid GAN (section V), a baseline: nothing else of flowvid needs it."""
