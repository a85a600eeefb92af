"""The experiments: data sets, configurations, runs, reports and figures."""
