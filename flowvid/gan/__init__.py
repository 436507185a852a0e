"""The paper's recurrent pyramid GAN (section V), as a baseline: nothing else of flowvid needs it."""
