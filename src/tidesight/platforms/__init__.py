"""What a platform is: when to scale, how long a start takes, where requests wait, what it costs; all sourced."""
