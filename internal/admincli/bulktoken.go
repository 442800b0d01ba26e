package admincli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/opencmg/opencmg/adminservice"
)

// Lifetimes of a bulk registration token, in minutes (cmg-behaviour K31).
const (
	bulkDefaultMinutes = 4320
	bulkMaxMinutes     = 10080
)

// BulkTokenSwitches turns the switches of the documented tool, /new and
// /lifetime, into arguments of ours; they may stand anywhere, in upper or lower
// case, with the minutes behind a space, a colon or an equals sign. asked
// reports whether /new was among them. args stays as it is.
func BulkTokenSwitches(args []string) (ours []string, asked bool) {
	for _, a := range args {
		lower := strings.ToLower(a)
		switch {
		case lower == "/new":
			asked = true
		case lower == "/lifetime":
			ours = append(ours, "--lifetime")
		case strings.HasPrefix(lower, "/lifetime:"), strings.HasPrefix(lower, "/lifetime="):
			ours = append(ours, "--lifetime="+a[len("/lifetime:"):])
		case lower == "/?", lower == "/help":
			ours = append(ours, "--help")
		default:
			ours = append(ours, a)
		}
	}
	return ours, asked
}

// BulkTokenTool is the documented tool by its own name: without /new it says
// how it is called.
func BulkTokenTool(ctx context.Context, e *Env, args []string) error {
	ours, asked := BulkTokenSwitches(args)
	for _, a := range ours {
		asked = asked || a == "--help" || a == "-h" || a == "-help"
	}
	if !asked {
		return usagef("bulk registration tokens: say what to do: /new [/lifetime MINUTES]; or opencmg bulk-token new, list, block or unblock")
	}
	return BulkTokenNew(ctx, e, args)
}

// texts are the values of a flag that may be given several times.
type texts []string

func (t *texts) String() string     { return strings.Join(*t, " ") }
func (t *texts) Set(s string) error { *t = append(*t, s); return nil }

// BulkTokenNew makes a bulk registration token. What people want to know about
// it goes to standard error, the token alone to standard output or into a file.
func BulkTokenNew(ctx context.Context, e *Env, args []string) error {
	var c connection
	var in adminservice.NewBulkToken
	var out secretFile
	fs := e.newFlags("bulk-token new [flags]", "Make a bulk registration token, with which devices register through the internet for the first time.\nThe switches /new and /lifetime MINUTES of BulkRegistrationTokenTool.exe are accepted.")
	c.register(fs)
	fs.IntVar(&in.Minutes, "lifetime", bulkDefaultMinutes, "validity in `minutes`, 1 to 10080")
	fs.IntVar(&in.Uses, "uses", 0, "how many clients may register with it; 0 is any `number`")
	fs.StringVar(&in.Group, "group", "", "a `label` that its clients carry")
	fs.Var((*texts)(&in.Sources), "source", "`prefix` of addresses from which clients may register, such as 192.0.2.0/24; may be repeated")
	fs.StringVar(&in.Description, "description", "", "`text` for people")
	out.register(fs)
	args, _ = BulkTokenSwitches(args)
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if in.Minutes < 1 || in.Minutes > bulkMaxMinutes {
		return usagef("bulk-token new: --lifetime %d: must be 1 to 10,080 minutes", in.Minutes)
	}
	client, err := c.client(e)
	if err != nil {
		return err
	}
	var t adminservice.BulkRegistrationToken
	if err := out.fill(func() (string, error) {
		err := client.Do(ctx, http.MethodPost, "BulkRegistrationTokens", in, &t)
		return t.Token, err
	}); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "GUID:  %s\nvalid: until %s%s\n", t.ID, t.Expires.Format(time.RFC3339), bulkLimits(t))
	return out.print(e, t.Token)
}

// bulkLimits says in words what a token is limited to.
func bulkLimits(t adminservice.BulkRegistrationToken) string {
	var b strings.Builder
	if t.Uses > 0 {
		fmt.Fprintf(&b, ", for %d clients", t.Uses)
	}
	if len(t.Sources) > 0 {
		fmt.Fprintf(&b, ", from %s", strings.Join(t.Sources, ", "))
	}
	if t.Group != "" {
		fmt.Fprintf(&b, ", for the group %s", t.Group)
	}
	return b.String()
}

// BulkTokenList lists the bulk registration tokens, the latest first.
func BulkTokenList(ctx context.Context, e *Env, args []string) error {
	fs := e.newFlags("bulk-token list [flags]", "List the bulk registration tokens, with how often clients registered with them.")
	return listCommand(ctx, e, fs, args, "BulkRegistrationTokens", []string{"guid", "issued", "expires", "state", "used", "last used", "group", "sources", "description"},
		func(t adminservice.BulkRegistrationToken) []string {
			return []string{t.ID, stamp(t.Issued), stamp(t.Expires), bulkState(t, time.Now()), counted(t.Used, t.Uses), stamp(t.LastUsed), t.Group, strings.Join(t.Sources, " "), t.Description}
		})
}

func bulkState(t adminservice.BulkRegistrationToken, now time.Time) string {
	switch {
	case t.Blocked:
		return "blocked"
	case now.After(t.Expires):
		return "expired"
	case t.Uses > 0 && t.Used >= t.Uses:
		return "used up"
	}
	return "valid"
}

// counted writes how many of a number; all is 0 when there is no limit.
func counted(n, all int) string {
	if all == 0 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d of %d", n, all)
}

// stamp is a time for a table, empty when there is none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// BulkTokenBlock refuses a token from now on, everywhere.
func BulkTokenBlock(ctx context.Context, e *Env, args []string) error {
	return bulkTokenAct(ctx, e, args, "block", "Refuse a bulk registration token on every gateway within a second.")
}

// BulkTokenUnblock accepts a token again.
func BulkTokenUnblock(ctx context.Context, e *Env, args []string) error {
	return bulkTokenAct(ctx, e, args, "unblock", "Accept a bulk registration token again.")
}

func bulkTokenAct(ctx context.Context, e *Env, args []string, act, about string) error {
	var c connection
	fs := e.newFlags("bulk-token "+act+" GUID [flags]", about)
	c.register(fs)
	arg, client, err := c.one(e, fs, args)
	if err != nil {
		return err
	}
	id := strings.ToUpper(strings.Trim(arg, "{}"))
	if err := client.Do(ctx, http.MethodPost, "BulkRegistrationTokens/"+url.PathEscape(id)+"/"+act, nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.Stderr, "%sed bulk registration token %s\n", act, id)
	return nil
}
