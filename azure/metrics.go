package azure

import (
	"context"
	"net/http"
	"time"

	"github.com/opencmg/opencmg"
)

type metricsAnswer struct {
	Value []struct {
		Name struct {
			Value string `json:"value"`
		} `json:"name"`
		ErrorCode  string `json:"errorCode"`
		Timeseries []struct {
			Data []struct {
				Time    time.Time `json:"timeStamp"`
				Total   *float64  `json:"total"`
				Average *float64  `json:"average"`
			} `json:"data"`
		} `json:"timeseries"`
	} `json:"value"`
}

func (c *Client) metrics(ctx context.Context, resource, metric, aggregation string, from, to time.Time) (*metricsAnswer, error) {
	const layout = "2006-01-02T15:04:05Z"
	address := c.armURL(resource+"/providers/Microsoft.Insights/metrics", versionMetrics,
		"metricnames", metric, "aggregation", aggregation, "interval", "PT1H",
		"timespan", from.UTC().Format(layout)+"/"+to.UTC().Format(layout))
	var m metricsAnswer
	_, err := call(ctx, c.arm, http.MethodGet, address, nil, &m)
	return &m, err
}

// Egress is how many bytes left the machines and the storage account from one
// time to another. Azure counts by the hour and may lag a day behind. A
// resource without traffic has no numbers: that is zero. So is one that does
// not exist.
func (c *Client) Egress(ctx context.Context, d *opencmg.Deployment, from, to time.Time) (gatewayBytes, storageBytes int64, err error) {
	sum := func(resource, metric string) (int64, error) {
		m, err := c.metrics(ctx, resource, metric, "Total", from, to)
		if isNotFound(err) {
			return 0, nil
		}
		if err != nil {
			return 0, c.fail(ctx, "read the metric "+metric+" of "+d.Name, err)
		}
		var n float64
		for _, v := range m.Value {
			for _, series := range v.Timeseries {
				for _, point := range series.Data {
					n += deref(point.Total)
				}
			}
		}
		return int64(n), nil
	}
	// Only what goes out: the public address counts both directions.
	if gatewayBytes, err = sum(resourceID(d, typeScaleSet, d.Name), "Network Out Total"); err != nil {
		return 0, 0, err
	}
	if storageBytes, err = sum(resourceID(d, typeStorage, d.Name), "Egress"); err != nil {
		return 0, 0, err
	}
	return gatewayBytes, storageBytes, nil
}

// StorageUsed is how many bytes the storage account holds, as of the newest
// count, which is made once a day.
func (c *Client) StorageUsed(ctx context.Context, d *opencmg.Deployment) (int64, error) {
	now := c.now()
	m, err := c.metrics(ctx, resourceID(d, typeStorage, d.Name), "UsedCapacity", "Average", now.Add(-48*time.Hour), now)
	if isNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, c.fail(ctx, "read the metric UsedCapacity of "+d.Name, err)
	}
	var used float64
	var at time.Time
	for _, v := range m.Value {
		for _, series := range v.Timeseries {
			for _, point := range series.Data {
				if point.Average != nil && !point.Time.Before(at) {
					used, at = *point.Average, point.Time
				}
			}
		}
	}
	return int64(used), nil
}
