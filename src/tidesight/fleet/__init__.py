"""An autoscaled fleet on one machine: instances, the load balancer in front, and what decides how many there are."""
