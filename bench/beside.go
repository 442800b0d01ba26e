package main

import (
	"context"
	"fmt"
)

// beside measures small requests alone and beside a download of 1 GiB that
// does not end before they do: the large one must not hold them up.
func (b *bench) beside(ctx context.Context, systems []*system) error {
	fmt.Fprintf(b.out, "\nSmall requests beside a download of 1 GiB: 2 KiB answers, 4 keep-alive connections, %d rounds of %v\n", b.o.rounds, b.o.duration/2)
	small := loadConfig{Conns: 4, Seconds: b.o.duration.Seconds() / 2, Path: "/SMS_MP/small"}
	alone, together := map[string][]figure{}, map[string][]figure{}
	for range b.o.rounds {
		for _, s := range systems {
			f, err := b.load(ctx, s, small)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			alone[s.name] = append(alone[s.name], f)
			large, err := b.e.start("load", loadConfig{Addr: s.addr, Conns: 1, Count: 1000, Path: "/SMS_MP/bulk?n=1073741824"})
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			f, err = b.load(ctx, s, small)
			large.stop()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			together[s.name] = append(together[s.name], f)
		}
	}
	fmt.Fprintf(b.out, "%-12s %13s %13s %8s %13s %13s\n", "", "alone p50 ms", "beside p50", "ratio", "alone p99 ms", "beside p99")
	for _, s := range systems {
		a, t := medianOf(alone[s.name]), medianOf(together[s.name])
		fmt.Fprintf(b.out, "%-12s %13.2f %13.2f %8.1f %13.2f %13.2f\n", s.name, a.p50, t.p50, t.p50/a.p50, a.p99, t.p99)
	}
	return nil
}
