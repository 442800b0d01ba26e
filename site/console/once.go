package console

import (
	"net/http"

	"github.com/opencmg/opencmg/internal/web"
)

// Secrets that are shown once. The page that shows one is the answer to the form
// that asked for it: it is in no address, no cookie and no cache, and there is
// no way to see it again.

// A once is a secret with what to do with it.
type once struct {
	Title, Secret string
	// Then says what to do with it, in steps; Commands are what to run there.
	Then     []string
	Commands []onceCommand
	Back     string // page to go back to, below Path
	// Join is what the page waits for when the secret is a join token.
	Join *joinPage
}

// A onceCommand is a command for one kind of shell, or for all with no name. It
// may hold the secret: the page is as secret as that.
type onceCommand struct{ Name, Text string }

// A maker makes a secret.
type maker struct {
	pattern string
	page    string // as of action
	node    string
	// make makes it. Without a secret to show it returns nil, and the page comes
	// again with what said says.
	make   func(*Visit) (*once, error)
	said   string
	fields fieldNames // as of action
}

// onceAnswers are the makers' forms.
func (c *Console) onceAnswers(makers ...[]maker) (all []rawAnswer) {
	for _, list := range makers {
		for _, m := range list {
			all = append(all, rawAnswer{method: http.MethodPost, pattern: m.pattern, serve: func(w http.ResponseWriter, v *Visit) error {
				made, err := m.make(v)
				if err != nil {
					return c.serveAgain(w, v, m.page, inForm(err, m.fields))
				}
				if made == nil {
					setNotice(w, m.said)
					http.Redirect(w, v.Request, Path+m.page, http.StatusSeeOther)
					return nil
				}
				shown := view{node: m.node, title: made.Title, template: "once"}
				if made.Join != nil {
					shown.freshAt = made.Join.address()
				}
				return c.render(w, v, shown, made, http.StatusOK)
			}})
		}
	}
	return all
}

// serveAgain shows the page of a form that was not done, with what was typed.
func (c *Console) serveAgain(w http.ResponseWriter, v *Visit, page string, err error) error {
	for _, of := range c.allViews() {
		if of.pattern != page {
			continue
		}
		v.Problem = err
		data, loadErr := of.load(v)
		if loadErr != nil {
			return err
		}
		c.log(v.Request, err)
		return c.render(w, v, of, data, web.Status(kindOf(err)))
	}
	return err
}
