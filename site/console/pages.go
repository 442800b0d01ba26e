package console

import "slices"

// allViews are the pages. Each file of this package brings its own.
func (c *Console) allViews() []view {
	return slices.Concat(
		checklistViews(),
		gatewayViews(),
		clientViews(),
		clientOperationViews(),
		siteTokenViews(),
	)
}

// allActions are what forms do.
func (c *Console) allActions() []action {
	return slices.Concat(
		checklistActions(),
		gatewayActions(),
		clientActions(),
		clientOperationActions(),
		siteTokenActions(),
	)
}

// allAnswers are what is neither.
func (c *Console) allAnswers() []rawAnswer {
	return slices.Concat(
		clientAnswers(),
	)
}
