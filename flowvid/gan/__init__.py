"""The paper's recurrent pyramid GAN (section V), a baseline; nothing else in flowvid imports it."""
