package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencmg/opencmg"
	"github.com/opencmg/opencmg/ccm"
)

// largeMessage is the size of a report's text, in bytes, from which it is
// uploaded to ccm_incoming instead of sent as a message.
const largeMessage = 4 << 20

// Heartbeat sends discovery data (DDR).
func (c *Client) Heartbeat(ctx context.Context) (StepResult, error) {
	return c.step(StepHeartbeat, "InventoryAgent", func(r *StepResult) error {
		if err := c.report(ctx, ccm.EndpointDDR, ccm.ActionDiscovery, "Discovery", c.discovery(), r); err != nil {
			return err
		}
		return c.update(func(s *state) { s.LastHeartbeat = c.cfg.Now() })
	})
}

// Inventory sends a full hardware inventory.
func (c *Client) Inventory(ctx context.Context) (StepResult, error) {
	return c.step(StepInventory, "InventoryAgent", func(r *StepResult) error {
		if err := c.report(ctx, ccm.EndpointHardware, ccm.ActionHardware, "Hardware", c.hardware(), r); err != nil {
			return err
		}
		return c.update(func(s *state) { s.LastInventory = c.cfg.Now() })
	})
}

// StateMessage sends state messages. Their serial numbers and times are set
// here; a serial number is used up on disk before it is sent, so that no two
// messages of a client ever share one.
func (c *Client) StateMessage(ctx context.Context, states ...ccm.StateMessage) (StepResult, error) {
	return c.step(StepState, "StateMessage", func(r *StepResult) error {
		id, err := c.registered()
		if err != nil {
			return err
		}
		if len(states) == 0 {
			states = []ccm.StateMessage{{StateID: 1, TopicID: string(id), TopicType: 701}} // heartbeat
		}
		var first int
		if err := c.update(func(s *state) { first = s.StateSerial + 1; s.StateSerial += len(states) }); err != nil {
			return err
		}
		for i := range states {
			states[i].SerialNumber = first + i
			if states[i].Time.IsZero() {
				states[i].Time = c.cfg.Now()
			}
		}
		report := &ccm.Report{ClientID: id, ClientVersion: AgentVersion, NetBIOSName: c.host.NetBIOSName, Content: ccm.ContentState, Full: true, Date: c.cfg.Now(), States: states}
		_, a, err := c.post(ctx, letter{
			endpoint: ccm.EndpointRelay, text: report.Encode(), need: clientProof, signed: true, async: true,
			properties: []ccm.Property{{Name: "FileType", Value: "SMX"}}, component: "StateMessage",
		})
		if err != nil {
			return err
		}
		r.CorrelationID = a.correlationID
		r.Detail = plural(len(states), "state message")
		return nil
	})
}

// report sends one inventory report, by upload when it is large.
func (c *Client) report(ctx context.Context, endpoint, action, name string, instances []ccm.Instance, r *StepResult) error {
	id, err := c.registered()
	if err != nil {
		return err
	}
	report := &ccm.Report{
		ClientID: id, ClientVersion: AgentVersion, NetBIOSName: c.host.NetBIOSName, Content: ccm.ContentInventory, Full: true,
		Date: c.cfg.Now(), ActionID: action, ActionName: name, Instances: instances,
	}
	text := report.Encode()
	l := letter{endpoint: endpoint, text: text, need: clientProof, signed: true, async: true, component: "InventoryAgent"}
	var a *answer
	if len(text) > largeMessage {
		a, err = c.upload(ctx, &l)
	} else {
		_, a, err = c.post(ctx, l)
	}
	if err != nil {
		return err
	}
	r.CorrelationID = a.correlationID
	r.Detail = fmt.Sprintf("%s, %d bytes", plural(len(instances), "instance"), len(text))
	return nil
}

// upload sends the message, in the same form, as a file to ccm_incoming.
func (c *Client) upload(ctx context.Context, l *letter) (*answer, error) {
	id := ccm.NewGUID()
	a, _, err := c.send(ctx, l.need, func(r *route) (*call, error) {
		q, err := c.letterCall(l, r, id)
		if err != nil {
			return nil, err
		}
		q.method, q.url = ccm.MethodBITSPost, r.base+ccm.PathIncoming+strings.Trim(id, "{}")
		q.component = "DataTransferService"
		q.header, err = ccm.ProofHeaders(c.key(), c.state().ClientID, c.cfg.Now())
		return q, err
	})
	if err == nil && a.header.Get(ccm.HeaderRefused) != "" {
		return nil, opencmg.Errorf(opencmg.Forbidden, "the management point refused the upload; look into its log for %s", l.endpoint)
	}
	return a, err
}

// discovery lists the instances without which a management point does not
// take a heartbeat (wire.md 8.1).
func (c *Client) discovery() []ccm.Instance {
	h, st := c.host, c.state()
	root := `\\` + h.NetBIOSName + `\root\ccm`
	p := func(name, value string) ccm.Property { return ccm.Property{Name: name, Value: value} }
	out := []ccm.Instance{
		{Namespace: root, Class: "CCM_ComputerSystem", Properties: []ccm.Property{p("Domain", domainOf(h.FQDN))}},
		{Namespace: root, Class: "CCM_Client", Properties: []ccm.Property{p("ClientIdChangeDate", ccm.FormatCIM(st.Registered)), p("ClientVersion", AgentVersion), p("PreviousClientId", "Unknown")}},
		{Namespace: root, Class: "SMS_Authority", Properties: []ccm.Property{p("Name", "SMS:"+string(st.siteCode()))}},
		{Namespace: root, Class: "CCM_ADSiteInfo", Properties: []ccm.Property{p("ADSiteName", "")}},
		{Namespace: root, Class: "CCM_ExtNetworkAdapterConfiguration", Properties: []ccm.Property{p("FQDN", h.FQDN)}},
		{Namespace: root, Class: "Win32_ComputerSystemProduct", Properties: []ccm.Property{p("IdentifyingNumber", h.NetBIOSName), p("Name", h.OS), p("UUID", ""), p("Version", "")}},
		{Namespace: root, Class: "CCM_DiscoveryData", Properties: []ccm.Property{p("PlatformID", platform(h))}},
	}
	for i, a := range h.Addresses {
		out = append(out,
			ccm.Instance{Namespace: root, Class: "CCM_NetworkAdapterConfiguration", Properties: []ccm.Property{p("IPSubnet", a.Subnet)}},
			ccm.Instance{Namespace: root, Class: "Win32_NetworkAdapterConfiguration", Properties: []ccm.Property{p("IPAddress", a.Address), p("Index", strconv.Itoa(i)), p("MACAddress", a.MAC)}})
	}
	return out
}

// hardware lists what a hardware inventory says.
func (c *Client) hardware() []ccm.Instance {
	h, st := c.host, c.state()
	agent, cim := `\\`+h.NetBIOSName+`\root\ccm\invagt`, `\\`+h.NetBIOSName+`\root\cimv2`
	p := func(name, value string) ccm.Property { return ccm.Property{Name: name, Value: value} }
	out := []ccm.Instance{
		{Namespace: agent, Class: "CCM_System", Properties: []ccm.Property{
			p("Domain", domainOf(h.FQDN)), p("LocalDateTime", ccm.FormatCIM(c.cfg.Now())), p("Name", h.NetBIOSName), p("SMSID", string(st.ClientID)), p("SystemRole", "Workstation"), p("SystemType", h.Architecture)}},
		{Namespace: cim, Class: "Win32_OperatingSystem", Properties: []ccm.Property{p("Caption", orElse(h.OSVersion, h.OS)), p("OSArchitecture", h.Architecture)}},
		{Namespace: cim, Class: "Win32_ComputerSystem", Properties: []ccm.Property{p("Name", h.NetBIOSName), p("NumberOfLogicalProcessors", strconv.Itoa(h.CPUs)), p("TotalPhysicalMemory", strconv.FormatInt(h.Memory, 10))}},
	}
	for i, a := range h.Addresses {
		out = append(out, ccm.Instance{Namespace: cim, Class: "Win32_NetworkAdapterConfiguration", Properties: []ccm.Property{
			p("Index", strconv.Itoa(i)), p("Description", a.Interface), p("IPAddress", a.Address), p("IPSubnet", a.Subnet), p("MACAddress", a.MAC)}})
	}
	for _, s := range h.Software {
		out = append(out, ccm.Instance{Namespace: cim, Class: "Win32Reg_AddRemovePrograms", Properties: []ccm.Property{p("DisplayName", s.Name), p("Version", s.Version), p("Publisher", s.Publisher)}})
	}
	return out
}

func platform(h *HostFacts) string {
	if h.OS == "windows" {
		return "Microsoft Windows NT Workstation 10.0"
	}
	return orElse(h.OSVersion, h.OS)
}

func domainOf(fqdn string) string {
	_, domain, _ := strings.Cut(fqdn, ".")
	return domain
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
