package browsertest

import "github.com/chromedp/chromedp"

// Try opens an address that may not be opened.
func Try(p *Page, address string) error { return chromedp.Do(p.ctx, chromedp.Navigate(address)) }
