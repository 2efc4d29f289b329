"""Jobs on clusters of Flink and Spark and on Prism, which are started in processes of their own."""
