module tulle.test/labbox

go 1.26.0
