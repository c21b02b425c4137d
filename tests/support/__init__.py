"""What tests are made with: sources and sets, servers and processes, devices that are not there."""
