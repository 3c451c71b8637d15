"""What chat models alone need of the gateway: holds that grow with a stream, and answers that a cache may share."""
