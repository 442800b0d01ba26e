package labcloud

import (
	"net/http"
	"strings"
	"time"
)

// Metrics: bytes that the load balancer and blob storage gave out, by the
// hour, and what an account holds. A resource that did nothing publishes no
// points.

// hourlyMetrics are totals by metric and hour (Unix seconds).
type hourlyMetrics map[string]map[int64]float64

// count adds to a metric of a resource. The caller holds s.world.
func (s *Server) count(resource, metric string, n float64) {
	if resource == "" || n == 0 {
		return
	}
	if s.st.Metrics[resource] == nil {
		s.st.Metrics[resource] = hourlyMetrics{}
	}
	if s.st.Metrics[resource][metric] == nil {
		s.st.Metrics[resource][metric] = map[int64]float64{}
	}
	s.st.Metrics[resource][metric][s.cfg.Now().Truncate(time.Hour).Unix()] += n
}

// AddMetric adds to a metric of a resource in the hour of at, as if it had
// happened then.
func (s *Server) AddMetric(resourceID, metric string, at time.Time, n float64) error {
	s.world.Lock()
	defer s.world.Unlock()
	key := strings.ToLower(resourceID)
	if s.st.Resources[key] == nil {
		return labErrorf("resource %q does not exist", resourceID)
	}
	s.count(key, metric, 1e-9) // makes the maps
	s.st.Metrics[key][metric][at.Truncate(time.Hour).Unix()] += n
	return s.save()
}

var metricNames = map[string]map[string]string{
	"microsoft.compute/virtualmachinescalesets": {"Network Out Total": "total", "Network In Total": "total", "Percentage CPU": "average"},
	"microsoft.storage/storageaccounts":         {"Egress": "total", "Ingress": "total", "UsedCapacity": "average", "Transactions": "total"},
	"microsoft.network/publicipaddresses":       {"ByteCount": "total", "PacketCount": "total"},
}

func (s *Server) metrics(c *armCall, scope string) (*reply, *armError) {
	r := s.st.Resources[strings.ToLower(scope)]
	if r == nil {
		return nil, armErrorf(http.StatusNotFound, "ResourceNotFound", "The resource '%s' was not found.", scope)
	}
	bad := func(format string, args ...any) (*reply, *armError) {
		return nil, armErrorf(http.StatusBadRequest, "BadRequest", format, args...)
	}
	from, to, _ := strings.Cut(c.query.Get("timespan"), "/")
	start, err1 := time.Parse(time.RFC3339, from)
	end, err2 := time.Parse(time.RFC3339, to)
	switch interval := c.query.Get("interval"); {
	case err1 != nil || err2 != nil || !start.Before(end):
		return bad("Invalid time span '%s'.", c.query.Get("timespan"))
	case interval != "" && interval != "PT1H":
		return bad("Detected invalid time grain input: only PT1H is supported here.")
	case c.query.Get("aggregation") == "":
		return bad("The parameter aggregation is missing.")
	}
	values := []any{}
	for _, name := range strings.Split(c.query.Get("metricnames"), ",") {
		kind := ""
		for n, k := range metricNames[strings.ToLower(r.Type)] {
			if strings.EqualFold(n, name) {
				name, kind = n, k
			}
		}
		if kind == "" {
			return bad("Failed to find metric configuration for provider: %s, metric: %s.", r.Type, name)
		}
		if !strings.Contains(strings.ToLower(c.query.Get("aggregation")), kind) {
			return bad("The aggregation of metric %s must be %s.", name, kind)
		}
		points := []any{}
		for h := start.Truncate(time.Hour); h.Before(end); h = h.Add(time.Hour) {
			v, found := s.st.Metrics[r.key()][name][h.Unix()]
			if name == "UsedCapacity" && !found {
				v, found = float64(s.st.Accounts[strings.ToLower(r.Name)].stored()), true
			}
			if found && v >= 1 {
				points = append(points, map[string]any{"timeStamp": h.UTC().Format(time.RFC3339), kind: v})
			}
		}
		series := []any{}
		if len(points) > 0 {
			series = append(series, map[string]any{"metadatavalues": []any{}, "data": points})
		}
		values = append(values, map[string]any{"id": r.ID + "/providers/Microsoft.Insights/metrics/" + name, "type": "Microsoft.Insights/metrics", "name": map[string]any{"value": name, "localizedValue": name}, "unit": "Bytes", "timeseries": series, "errorCode": "Success"})
	}
	return ok(map[string]any{"cost": 0, "timespan": c.query.Get("timespan"), "interval": "PT1H", "namespace": r.Type, "resourceregion": r.Location, "value": values}), nil
}
