"""Events for other systems: Kafka topics and Parquet files. Each needs an extra of this package."""
