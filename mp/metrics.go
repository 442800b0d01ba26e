package mp

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests, messages, registrations, tokens, notifications *prometheus.CounterVec
	refused, uploaded                                        prometheus.Counter
}

func newMetrics(r *prometheus.Registry, h *hub) *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "opencmg", Subsystem: "mp", Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "opencmg", Subsystem: "mp", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "opencmg", Subsystem: "mp", Name: "online_clients", Help: "Clients that hold a notification channel."},
		func() float64 { return float64(h.count()) }))
	return &metrics{
		requests:      vec("requests_total", "Requests by endpoint and status.", "endpoint", "status"),
		messages:      vec("messages_total", "Messages by target endpoint.", "endpoint"),
		registrations: vec("registrations_total", "Registrations by outcome.", "outcome"),
		tokens:        vec("tokens_total", "Issued tokens by kind.", "kind"),
		notifications: vec("notifications_total", "Notifications by what happened.", "event"),
		refused:       counter("refused_messages_total", "Messages answered with silence because of their signature or sender."),
		uploaded:      counter("uploaded_bytes_total", "Bytes of stored uploads."),
	}
}
