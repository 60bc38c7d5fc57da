"""Events for other systems: Kafka topics and Parquet files. What each needs is an extra of this package."""
