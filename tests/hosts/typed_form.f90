! SPDX-License-Identifier: Apache-2.0
! Four calls of each kind through module mpi_f08.
program typed_form
  use mpi_f08
  implicit none
  integer :: ierr, i, rank, ranks
  real(8) :: values(64)
  values = 1d0
  call MPI_INIT(ierr)
  call MPI_COMM_RANK(MPI_COMM_WORLD, rank, ierr)
  call MPI_COMM_SIZE(MPI_COMM_WORLD, ranks, ierr)
  do i = 1, 4
    call MPI_ALLREDUCE(MPI_IN_PLACE, values, 64, MPI_DOUBLE_PRECISION, MPI_MAX, MPI_COMM_WORLD, ierr)
  end do
  call MPI_FINALIZE(ierr)
end program
