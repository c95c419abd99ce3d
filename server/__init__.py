"""The operator's side: launches studies, adds masked vectors, publishes encoders; sees no site's update."""
