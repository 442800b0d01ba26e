package admincli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/opencmg/opencmg/adminservice"
)

// GatewayInstances lists the instances of a gateway. It fails unless all of them
// are there and connected, so that a script can wait for that.
func GatewayInstances(ctx context.Context, e *Env, args []string) error {
	var c asking
	fs := e.newFlags("gateway instances [GATEWAY] [flags]", "List the instances of a gateway as they are now.\nThe exit code is 0 when there are as many as wished and all are connected, 1 otherwise.")
	c.register(fs, outputTable, outputJSON)
	rest, err := c.parse(e, fs, args, 0, 1)
	if err != nil {
		return err
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	name := ""
	if len(rest) == 1 {
		name = rest[0]
	}
	g, err := oneGateway(ctx, client, name)
	if err != nil {
		return err
	}
	connected := 0
	var rows [][]string
	for _, m := range g.Machines {
		row := []string{strconv.Itoa(m.Number), "no", m.Power, m.Health, m.Address, "", "", ""}
		if m.Connected {
			connected++
			row[1] = "yes"
		}
		if s := m.Status; s != nil {
			row[5], row[6], row[7] = s.Version, strconv.FormatInt(s.Connections, 10), strconv.FormatInt(s.Held, 10)
		}
		rows = append(rows, row)
	}
	if c.way == outputJSON {
		err = printJSON(e.Stdout, g.Machines...)
	} else {
		err = printTable(e.Stdout, []string{"instance", "connected", "power", "health", "address", "version", "connections", "held"}, rows)
	}
	wished := g.Instances
	if g.Model == adminservice.ModelSelfHosted {
		wished = max(1, len(g.Machines)) // as many as joined
	}
	if err == nil && (len(g.Machines) < wished || connected < len(g.Machines)) {
		fmt.Fprintf(e.Stderr, "%d of %d instances are there, %d connected\n", len(g.Machines), wished, connected)
		return ErrReported
	}
	return err
}
